"""OpenVINO GenAI's pipeline on the CPU; it reads GGUF and times its tokens itself."""

import numpy
import openvino
import openvino_genai

from common import drive, tokens


def measure(arguments):
    pipeline = openvino_genai.LLMPipeline(
        arguments.model, "CPU", INFERENCE_NUM_THREADS=arguments.threads)
    n_vocab = len(pipeline.get_tokenizer().get_vocab())

    def run(n_prompt, n_new):
        ids = numpy.array([tokens(n_vocab, n_prompt)], dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig(
            max_new_tokens=n_new, min_new_tokens=n_new, ignore_eos=True, do_sample=False)
        return pipeline.generate(inputs, config).perf_metrics

    run(16, 2)
    prompt = run(arguments.prompt_tokens, 1).get_ttft().mean
    decode = run(1, arguments.new_tokens + 1).get_tpot().mean
    return {"prompt_tok_s": 1000 * arguments.prompt_tokens / prompt, "decode_tok_s": 1000 / decode}


drive("openvino-genai", measure)
