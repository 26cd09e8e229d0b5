/* Where the fields lie, on machines with 64 bits: what other languages' bindings rely on. */

#include <stdint.h>

#include "expect.h"

/* Fails to compile where a fact is false. */
#define ASSERT(name, fact) typedef char name[(fact) ? 1 : -1]
#define AT(type, field, offset) \
    ASSERT(type##_##field, sizeof(void *) != 8 || offsetof(type, field) == (offset))
#define SIZE(type, bytes) ASSERT(type##_bytes, sizeof(void *) != 8 || sizeof(type) == (bytes))

ASSERT(status_is_32_bits, sizeof(hb_status) == 4);
ASSERT(status_is_signed, (hb_status)-1 < 0);

SIZE(hb_message, 16);
AT(hb_message, role, 0);
AT(hb_message, content, 8);

SIZE(hb_logit_bias, 8);
AT(hb_logit_bias, token, 0);
AT(hb_logit_bias, bias, 4);

SIZE(hb_piece, 32);
AT(hb_piece, size, 0);
AT(hb_piece, text, 8);
AT(hb_piece, text_bytes, 16);
AT(hb_piece, token, 24);
AT(hb_piece, logprob, 28);

SIZE(hb_model_options, 56);
AT(hb_model_options, size, 0);
AT(hb_model_options, threads, 8);
AT(hb_model_options, context_length, 12);
AT(hb_model_options, cache_type, 16);
AT(hb_model_options, n_gqa, 20);
AT(hb_model_options, rms_eps, 24);
AT(hb_model_options, rope_base, 28);
AT(hb_model_options, progress, 32);
AT(hb_model_options, progress_data, 40);
AT(hb_model_options, cancel, 48);

SIZE(hb_model_info, 248);
AT(hb_model_info, size, 0);
AT(hb_model_info, name, 8);
AT(hb_model_info, architecture, 136);
AT(hb_model_info, isa, 168);
AT(hb_model_info, context_length, 200);
AT(hb_model_info, vocab_size, 204);
AT(hb_model_info, hidden_size, 208);
AT(hb_model_info, n_layers, 212);
AT(hb_model_info, n_heads, 216);
AT(hb_model_info, n_kv_heads, 220);
AT(hb_model_info, threads, 224);
AT(hb_model_info, cache_type, 228);
AT(hb_model_info, bos, 232);
AT(hb_model_info, eos, 236);
AT(hb_model_info, packed_bytes, 240);

SIZE(hb_generation_report, 64);
AT(hb_generation_report, size, 0);
AT(hb_generation_report, finish_reason, 8);
AT(hb_generation_report, reserved, 12);
AT(hb_generation_report, prompt_tokens, 16);
AT(hb_generation_report, reused_tokens, 24);
AT(hb_generation_report, new_tokens, 32);
AT(hb_generation_report, seed, 40);
AT(hb_generation_report, prompt_seconds, 48);
AT(hb_generation_report, decode_seconds, 56);

SIZE(hb_generation_options, 136);
AT(hb_generation_options, size, 0);
AT(hb_generation_options, max_new_tokens, 8);
AT(hb_generation_options, seed, 16);
AT(hb_generation_options, has_seed, 24);
AT(hb_generation_options, temperature, 28);
AT(hb_generation_options, top_k, 32);
AT(hb_generation_options, top_p, 36);
AT(hb_generation_options, min_p, 40);
AT(hb_generation_options, typical_p, 44);
AT(hb_generation_options, repetition_penalty, 48);
AT(hb_generation_options, repeat_last_n, 52);
AT(hb_generation_options, presence_penalty, 56);
AT(hb_generation_options, frequency_penalty, 60);
AT(hb_generation_options, context_policy, 64);
AT(hb_generation_options, ignore_eos, 68);
AT(hb_generation_options, logprobs, 72);
AT(hb_generation_options, reserved, 76);
AT(hb_generation_options, stop, 80);
AT(hb_generation_options, n_stop, 88);
AT(hb_generation_options, logit_bias, 96);
AT(hb_generation_options, n_logit_bias, 104);
AT(hb_generation_options, progress, 112);
AT(hb_generation_options, progress_data, 120);
AT(hb_generation_options, cancel, 128);

/* The numbers as they were in the first version, forever: the header's, and what they are called. */
static const struct {
    hb_status status;
    int number;
    const char *name;
} STATUSES[] = {
    {HB_OK, 0, "HB_OK"}, {HB_END, 1, "HB_END"}, {HB_NULL_ARGUMENT, 2, "HB_NULL_ARGUMENT"},
    {HB_INVALID_HANDLE, 3, "HB_INVALID_HANDLE"}, {HB_INVALID_UTF8, 4, "HB_INVALID_UTF8"},
    {HB_INVALID_ARGUMENT, 5, "HB_INVALID_ARGUMENT"},
    {HB_BUFFER_TOO_SMALL, 6, "HB_BUFFER_TOO_SMALL"}, {HB_BUSY, 7, "HB_BUSY"},
    {HB_FORKED, 8, "HB_FORKED"}, {HB_CANCELLED, 9, "HB_CANCELLED"},
    {HB_CONTEXT_FULL, 10, "HB_CONTEXT_FULL"}, {HB_NOT_FOUND, 11, "HB_NOT_FOUND"},
    {HB_IO, 12, "HB_IO"}, {HB_MALFORMED, 13, "HB_MALFORMED"},
    {HB_UNSUPPORTED, 14, "HB_UNSUPPORTED"}, {HB_TOKENIZER, 15, "HB_TOKENIZER"},
    {HB_TEMPLATE, 16, "HB_TEMPLATE"}, {HB_OUT_OF_MEMORY, 17, "HB_OUT_OF_MEMORY"},
    {HB_INTERNAL, 18, "HB_INTERNAL"},
    {19, 19, "?"}, {-1, -1, "?"},
};

static const struct {
    uint32_t found;
    uint32_t expected;
} NUMBERS[] = {
    {HB_LOG_ERROR, 1}, {HB_LOG_INFO, 2}, {HB_CACHE_F16, 0}, {HB_CACHE_F32, 1}, {HB_CACHE_Q8, 2},
    {HB_ADD_BOS, 1}, {HB_PARSE_SPECIAL, 2}, {HB_CONTEXT_DEFAULT, 0}, {HB_CONTEXT_ERROR, 1},
    {HB_CONTEXT_DROP_OLDEST_TURNS, 2}, {HB_CONTEXT_SHIFT, 3}, {HB_FINISH_NONE, 0},
    {HB_FINISH_STOP, 1}, {HB_FINISH_STOP_TEXT, 2}, {HB_FINISH_LENGTH, 3}, {HB_FINISH_CANCELLED, 4},
    {HB_FINISH_FAILED, 5},
};

static int same(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) a++, b++;
    return *a == *b;
}

int main(void)
{
    size_t i;
    for (i = 0; i < sizeof STATUSES / sizeof *STATUSES; i++) {
        HOLDS(STATUSES[i].status == STATUSES[i].number);
        HOLDS(same(hb_status_name(STATUSES[i].number), STATUSES[i].name));
    }
    for (i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        HOLDS(NUMBERS[i].found == NUMBERS[i].expected);
    }
    HOLDS(hb_abi_version() == HB_ABI_VERSION);
    HOLDS(hb_version()[0] != '\0');
    return summary("layout");
}
