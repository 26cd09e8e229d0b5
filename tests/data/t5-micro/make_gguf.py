"""Writes the model as llama.cpp's converter would, with the PyPI package gguf 0.19: `python make_gguf.py . q8_0.gguf q8_0`."""

import json, sys, numpy as np, gguf, sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb
from safetensors.numpy import load_file
src, out, q = sys.argv[1:4]
c=json.load(open(src+'/config.json')); w=load_file(src+'/model.safetensors')
g=gguf.GGUFWriter(out,'t5')
g.add_context_length(c['n_positions']); g.add_embedding_length(c['d_model']); g.add_feed_forward_length(c['d_ff']); g.add_block_count(c['num_layers'])
g.add_head_count(c['num_heads']); g.add_key_length(c['d_kv']); g.add_value_length(c['d_kv']); g.add_layer_norm_eps(c['layer_norm_epsilon'])
g.add_relative_attn_buckets_count(c['relative_attention_num_buckets']); g.add_layer_norm_rms_eps(c['layer_norm_epsilon']); g.add_decoder_start_token_id(0)
m=pb.ModelProto(); m.ParseFromString(open(src+'/spiece.model','rb').read())
toks=[p.piece.encode() for p in m.pieces]+[f'<extra_id_{19-i}>'.encode() for i in range(20)]
sc=[p.score for p in m.pieces]+[-1000.0]*20; ty=[p.type for p in m.pieces]+[4]*20
g.add_tokenizer_model('t5'); g.add_tokenizer_pre('default'); g.add_token_list(toks); g.add_token_scores(sc); g.add_token_types(ty)
g.add_add_space_prefix(m.normalizer_spec.add_dummy_prefix); g.add_remove_extra_whitespaces(m.normalizer_spec.remove_extra_whitespaces)
if m.normalizer_spec.precompiled_charsmap: g.add_precompiled_charsmap(m.normalizer_spec.precompiled_charsmap)
g.add_eos_token_id(1); g.add_unk_token_id(2); g.add_pad_token_id(0); g.add_add_bos_token(False); g.add_add_eos_token(True)
import re
M={'SelfAttention.q':'attn_q','SelfAttention.k':'attn_k','SelfAttention.v':'attn_v','SelfAttention.o':'attn_o','SelfAttention.relative_attention_bias':'attn_rel_b','EncDecAttention.q':'cross_attn_q','EncDecAttention.k':'cross_attn_k','EncDecAttention.v':'cross_attn_v','EncDecAttention.o':'cross_attn_o','DenseReluDense.wi_0':'ffn_gate','DenseReluDense.wi_1':'ffn_up','DenseReluDense.wo':'ffn_down'}
for n,t in w.items():
    if n=='shared.weight': name='token_embd.weight'
    elif 'final_layer_norm' in n: name=n[:3]+'.output_norm.weight'
    else:
        side,b,l,mod=re.match(r'(\w+)\.block\.(\d+)\.layer\.(\d)\.(.*)\.weight',n).groups()
        if mod=='layer_norm': st={('encoder','0'):'attn_norm',('encoder','1'):'ffn_norm',('decoder','0'):'attn_norm',('decoder','1'):'cross_attn_norm',('decoder','2'):'ffn_norm'}[side,l]
        else: st=M[mod]
        name=f'{side[:3]}.blk.{b}.{st}.weight'
    t=t.astype(np.float32)
    if t.ndim==1 or 'rel_b' in name or q=='f32': g.add_tensor(name,t)
    else:
        T=getattr(gguf.GGMLQuantizationType,q.upper())
        if t.shape[-1]%32: g.add_tensor(name,t.astype(np.float16)); continue
        g.add_tensor(name,gguf.quants.quantize(t,T),raw_dtype=T)
g.write_header_to_file(); g.write_kv_data_to_file(); g.write_tensors_to_file(); g.close()
