"""llama.cpp through llama-cpp-python's low-level API, as its own bench does: no sampling."""

import os

import llama_cpp as c

from common import drive, speeds


def measure(arguments):
    c.llama_backend_init()
    model = c.llama_model_load_from_file(
        os.fsencode(arguments.model), c.llama_model_default_params())
    if not model:
        raise RuntimeError("llama.cpp does not load the file")
    params = c.llama_context_default_params()
    params.n_ctx = max(1024, arguments.prompt_tokens + arguments.new_tokens)
    params.n_batch = params.n_ubatch = max(512, arguments.prompt_tokens)
    params.n_threads = params.n_threads_batch = arguments.threads
    context = c.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("llama.cpp makes no context")

    def feed(ids, first):
        if first:
            c.llama_memory_clear(c.llama_get_memory(context), True)
        array = (c.llama_token * len(ids))(*ids)
        status = c.llama_decode(context, c.llama_batch_get_one(array, len(ids)))
        if status:
            raise RuntimeError(f"llama_decode returns {status}")
        c.llama_synchronize(context)

    n_vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    return speeds(feed, n_vocab, arguments)


drive("llama-cpp-python", measure)
