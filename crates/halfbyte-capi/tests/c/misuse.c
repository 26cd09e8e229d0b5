/* Wrong handles, NULL, wrong counts, wrong text, wrong sizes: each has its status, none crashes. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "expect.h"

#define ADAPTER "misuse-adapter.bin"

static hb_model *model;
static hb_session *session;
static hb_generation *generation;
static hb_cancel *cancel;
static hb_adapter *adapter;

static hb_generation_options options(void)
{
    hb_generation_options found;
    EXPECT(HB_OK, hb_generation_options_init(&found, sizeof found));
    found.max_new_tokens = 2;
    found.has_seed = 1;
    return found;
}

static int go_on(const hb_piece *piece, void *user_data)
{
    (void)piece, (void)user_data;
    return 0;
}

static void with_wrong_model(hb_model *wrong, hb_status status)
{
    const uint32_t tokens[] = {1, 2};
    const hb_message message = {"user", "Hi"};
    hb_model_info info = {0};
    hb_session *place = session;
    hb_adapter *opened = adapter;
    hb_model *made = model;
    char text[16];
    float numbers[16];
    uint32_t ids[16];
    size_t n;
    info.size = sizeof info;
    EXPECT(status, hb_model_get_info(wrong, &info));
    EXPECT(status, hb_session_new(wrong, &place));
    HOLDS(place == NULL);
    EXPECT(status, hb_session_load(wrong, "session", &place));
    EXPECT(status, hb_tokenize(wrong, "a", 0, ids, 16, &n));
    EXPECT(status, hb_detokenize(wrong, tokens, 2, text, sizeof text, &n));
    EXPECT(status, hb_logits(wrong, tokens, 2, NULL, numbers, 16, &n));
    EXPECT(status, hb_embed(wrong, "a", NULL, numbers, 16, &n));
    EXPECT(status, hb_apply_chat_template(wrong, NULL, &message, 1, 1, text, sizeof text, &n));
    EXPECT(status, hb_adapter_open(wrong, "adapter", &opened));
    HOLDS(opened == NULL);
    EXPECT(status, hb_model_with_adapters(wrong, NULL, NULL, 0, &made));
    HOLDS(made == NULL);
    EXPECT(wrong == NULL ? HB_OK : status, hb_model_free(wrong));
}

static void with_wrong_session(hb_session *wrong, hb_status status)
{
    const hb_message message = {"user", "Hi"};
    const uint32_t tokens[] = {1, 2};
    hb_generation *place = generation;
    size_t n;
    EXPECT(status, hb_session_save(wrong, "session"));
    EXPECT(status, hb_session_tokens(wrong, NULL, 0, &n));
    EXPECT(status, hb_session_reset(wrong));
    EXPECT(status, hb_session_set_adapters(wrong, &adapter, NULL, 1));
    EXPECT(status, hb_generate(wrong, "a", NULL, go_on, NULL, NULL));
    EXPECT(status, hb_generation_start(wrong, "a", NULL, &place));
    HOLDS(place == NULL);
    EXPECT(status, hb_generation_start_tokens(wrong, tokens, 2, NULL, &place));
    EXPECT(status, hb_generation_start_chat(wrong, NULL, &message, 1, NULL, &place));
    EXPECT(wrong == NULL ? HB_OK : status, hb_session_free(wrong));
}

static void with_wrong_generation(hb_generation *wrong, hb_status status)
{
    hb_generation_report report = {0};
    char text[256];
    report.size = sizeof report;
    EXPECT(status, hb_generation_next(wrong, text, sizeof text, NULL));
    EXPECT(status, hb_generation_get_report(wrong, &report));
    EXPECT(wrong == NULL ? HB_OK : status, hb_generation_free(wrong));
}

static void with_wrong_adapter(hb_adapter *wrong, hb_status status)
{
    hb_adapter *const both[] = {adapter, wrong};
    hb_model *made = model;
    EXPECT(status, hb_session_set_adapters(session, both, NULL, 2));
    EXPECT(status, hb_model_with_adapters(model, both, NULL, 2, &made));
    HOLDS(made == NULL);
    EXPECT(wrong == NULL ? HB_OK : status, hb_adapter_free(wrong));
}

static void with_wrong_cancel(hb_cancel *wrong, hb_status status)
{
    const uint32_t tokens[] = {1, 2};
    hb_generation_options how = options();
    hb_model_options opening = {0};
    hb_model *opened;
    hb_generation *place;
    float numbers[16];
    size_t n;
    EXPECT(status, hb_cancel_stop(wrong));
    EXPECT(wrong == NULL ? HB_OK : status, hb_cancel_free(wrong));
    if (wrong == NULL) return; /* No brake is a good one. */
    opening.size = sizeof opening;
    opening.cancel = wrong;
    how.cancel = wrong;
    EXPECT(status, hb_model_open(NULL, &opening, &opened));
    HOLDS(opened == NULL);
    EXPECT(status, hb_generation_start(session, "a", &how, &place));
    EXPECT(status, hb_generate(session, "a", &how, go_on, NULL, NULL));
    EXPECT(status, hb_logits(model, tokens, 2, wrong, numbers, 16, &n));
    EXPECT(status, hb_embed(model, "a", wrong, numbers, 16, &n));
}

/* Freed handles, handles of other kinds, addresses and random numbers. */
static void wrong_handles(void)
{
    hb_model *freed_model = NULL;
    hb_session *freed_session = NULL;
    hb_generation *freed_generation = NULL;
    hb_cancel *freed_cancel = NULL;
    hb_adapter *freed_adapter = NULL;
    uint64_t random = 1;
    size_t i;
    void *wrong[] = {NULL, &random, (void *)1, (void *)2, (void *)UINTPTR_MAX,
                     (void *)(UINTPTR_MAX >> 1), (void *)(uintptr_t)0xDEADBEEF};
    EXPECT(HB_OK, hb_model_open(NULL, NULL, &freed_model));
    EXPECT(HB_OK, hb_session_new(freed_model, &freed_session));
    EXPECT(HB_OK, hb_generation_start(freed_session, "a", NULL, &freed_generation));
    EXPECT(HB_OK, hb_cancel_new(&freed_cancel));
    EXPECT(HB_OK, hb_adapter_open(freed_model, ADAPTER, &freed_adapter));
    EXPECT(HB_OK, hb_adapter_free(freed_adapter));
    EXPECT(HB_OK, hb_model_free(freed_model));
    EXPECT(HB_OK, hb_session_free(freed_session));
    EXPECT(HB_OK, hb_generation_free(freed_generation));
    EXPECT(HB_OK, hb_cancel_free(freed_cancel));
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const hb_status status = wrong[i] == NULL ? HB_NULL_ARGUMENT : HB_INVALID_HANDLE;
        with_wrong_model((hb_model *)wrong[i], status);
        with_wrong_session((hb_session *)wrong[i], status);
        with_wrong_generation((hb_generation *)wrong[i], status);
        with_wrong_cancel((hb_cancel *)wrong[i], status);
        with_wrong_adapter((hb_adapter *)wrong[i], status);
    }
    with_wrong_model(freed_model, HB_INVALID_HANDLE);
    with_wrong_model((hb_model *)session, HB_INVALID_HANDLE);
    with_wrong_model((hb_model *)cancel, HB_INVALID_HANDLE);
    with_wrong_session(freed_session, HB_INVALID_HANDLE);
    with_wrong_session((hb_session *)model, HB_INVALID_HANDLE);
    with_wrong_session((hb_session *)generation, HB_INVALID_HANDLE);
    with_wrong_generation(freed_generation, HB_INVALID_HANDLE);
    with_wrong_generation((hb_generation *)session, HB_INVALID_HANDLE);
    with_wrong_adapter(freed_adapter, HB_INVALID_HANDLE);
    with_wrong_adapter((hb_adapter *)model, HB_INVALID_HANDLE);
    with_wrong_session((hb_session *)adapter, HB_INVALID_HANDLE);
    with_wrong_cancel(freed_cancel, HB_INVALID_HANDLE);
    with_wrong_cancel((hb_cancel *)model, HB_INVALID_HANDLE);
    for (i = 0; i < 2000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        EXPECT(HB_INVALID_HANDLE, hb_session_reset((hb_session *)(uintptr_t)(random | 1)));
        EXPECT(HB_INVALID_HANDLE, hb_model_free((hb_model *)(uintptr_t)(random >> 20 | 1)));
    }
}

static void null_pointers(void)
{
    float scale = 1;
    hb_adapter *opened = adapter;
    hb_model *made = model;
    const uint32_t tokens[] = {1, 2};
    const hb_message message = {"user", "Hi"}, no_role = {NULL, "Hi"}, no_content = {"user", NULL};
    hb_generation_options how = options();
    hb_generation *place;
    hb_session *loaded;
    float numbers[2];
    char text[2];
    uint32_t ids[2];
    size_t n;
    EXPECT(HB_NULL_ARGUMENT, hb_model_open(NULL, NULL, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_model_get_info(model, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_session_new(model, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_session_load(model, NULL, &loaded));
    EXPECT(HB_NULL_ARGUMENT, hb_session_load(model, "x", NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_session_save(session, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_session_tokens(session, NULL, 0, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_session_tokens(session, NULL, 5, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_tokenize(model, NULL, 0, ids, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_tokenize(model, "a", 0, NULL, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_tokenize(model, "a", 0, ids, 2, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_detokenize(model, NULL, 2, text, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_detokenize(model, tokens, 2, NULL, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_detokenize(model, tokens, 2, text, 2, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_logits(model, NULL, 2, NULL, numbers, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_logits(model, tokens, 2, NULL, NULL, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_logits(model, tokens, 2, NULL, numbers, 2, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_embed(model, NULL, NULL, numbers, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_embed(model, "a", NULL, NULL, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_embed(model, "a", NULL, numbers, 2, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_apply_chat_template(model, NULL, NULL, 1, 1, text, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_apply_chat_template(model, NULL, &no_role, 1, 1, text, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_apply_chat_template(model, NULL, &no_content, 1, 1, text, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_apply_chat_template(model, NULL, &message, 1, 1, NULL, 2, &n));
    EXPECT(HB_NULL_ARGUMENT, hb_apply_chat_template(model, NULL, &message, 1, 1, text, 2, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generate(session, NULL, NULL, go_on, NULL, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generate(session, "a", NULL, NULL, NULL, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start(session, NULL, NULL, &place));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start(session, "a", NULL, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start_tokens(session, NULL, 2, NULL, &place));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start_tokens(session, tokens, 2, NULL, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start_chat(session, NULL, NULL, 1, NULL, &place));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start_chat(session, NULL, &message, 1, NULL, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_next(generation, NULL, 0, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_next(generation, NULL, 9, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_get_report(generation, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_generation_options_init(NULL, sizeof how));
    EXPECT(HB_NULL_ARGUMENT, hb_cancel_new(NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_adapter_open(model, NULL, &opened));
    HOLDS(opened == NULL);
    EXPECT(HB_NULL_ARGUMENT, hb_adapter_open(model, ADAPTER, NULL));
    EXPECT(HB_NULL_ARGUMENT, hb_session_set_adapters(session, NULL, &scale, 1));
    EXPECT(HB_NULL_ARGUMENT, hb_model_with_adapters(model, NULL, &scale, 1, &made));
    EXPECT(HB_NULL_ARGUMENT, hb_model_with_adapters(model, &adapter, &scale, 1, NULL));
    how.n_stop = 1;
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    how.n_stop = 0;
    how.n_logit_bias = 1;
    EXPECT(HB_NULL_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    EXPECT(HB_OK, hb_set_log(NULL, NULL));
}

static void counts_and_buffers(void)
{
    enum { MANY = 4000 };
    static uint32_t many[MANY];
    const size_t huge[] = {(size_t)-1, (size_t)-2, SIZE_MAX / 2, SIZE_MAX / 4, (size_t)UINT32_MAX, 1 << 25};
    const hb_message message = {"user", "Hi"};
    hb_generation *place;
    hb_session *loaded;
    uint32_t ids[8], outside = UINT32_MAX;
    float numbers[8];
    char text[8];
    size_t n, i;
    hb_model *made;
    const float scales[] = {NAN, INFINITY, -INFINITY};
    for (i = 0; i < 3; i++) {
        EXPECT(HB_INVALID_ARGUMENT, hb_session_set_adapters(session, &adapter, &scales[i], 1));
        EXPECT(HB_INVALID_ARGUMENT, hb_model_with_adapters(model, &adapter, &scales[i], 1, &made));
    }
    for (i = 0; i < sizeof huge / sizeof *huge; i++) {
        EXPECT(HB_INVALID_ARGUMENT, hb_detokenize(model, many, huge[i], text, 8, &n));
        EXPECT(HB_INVALID_ARGUMENT, hb_session_set_adapters(session, &adapter, NULL, huge[i]));
        EXPECT(HB_INVALID_ARGUMENT, hb_model_with_adapters(model, &adapter, NULL, huge[i], &made));
        EXPECT(HB_INVALID_ARGUMENT, hb_logits(model, many, huge[i], NULL, numbers, 8, &n));
        EXPECT(HB_INVALID_ARGUMENT, hb_generation_start_tokens(session, many, huge[i], NULL, &place));
        EXPECT(HB_INVALID_ARGUMENT, hb_generation_start_chat(session, NULL, &message, huge[i], NULL, &place));
        EXPECT(HB_INVALID_ARGUMENT, hb_apply_chat_template(model, NULL, &message, huge[i], 1, text, 8, &n));
        /* A buffer may be said to be as large as one likes: only what is needed is written. */
        EXPECT(HB_OK, hb_tokenize(model, "The cat", 0, ids, huge[i], &n));
    }
    EXPECT(HB_CONTEXT_FULL, hb_generation_start_tokens(session, many, MANY, NULL, &place));
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start_tokens(session, &outside, 1, NULL, &place));
    EXPECT(HB_OK, hb_detokenize(model, &outside, 1, text, 8, &n));
    EXPECT(HB_INVALID_ARGUMENT, hb_logits(model, many, 0, NULL, numbers, 8, &n));
    EXPECT(HB_BUFFER_TOO_SMALL, hb_logits(model, many, 2, NULL, numbers, 8, &n));
    HOLDS(n > 8);
    EXPECT(HB_BUFFER_TOO_SMALL, hb_embed(model, "a", NULL, numbers, 8, &n));
    HOLDS(n > 8);
    EXPECT(HB_BUFFER_TOO_SMALL, hb_tokenize(model, "Once upon a time there was a cat", 0, ids, 2, &n));
    HOLDS(n > 2);
    EXPECT(HB_OK, hb_tokenize(model, "Once upon a time", 0, NULL, 0, &n));
    EXPECT(HB_OK, hb_tokenize(model, "Once upon", 0, ids, 8, &n));
    EXPECT(HB_BUFFER_TOO_SMALL, hb_detokenize(model, ids, n, text, 8, &i));
    HOLDS(i == strlen("Once upon"));
    EXPECT(HB_BUFFER_TOO_SMALL, hb_apply_chat_template(model, NULL, &message, 1, 1, text, 8, &n));
    EXPECT(HB_BUFFER_TOO_SMALL, hb_generation_next(generation, text, 0, NULL));
    EXPECT(HB_INVALID_ARGUMENT, hb_tokenize(model, "a", 4, ids, 8, &n));
    EXPECT(HB_INVALID_ARGUMENT, hb_tokenize(model, "a", UINT32_MAX, ids, 8, &n));
    EXPECT(HB_INVALID_ARGUMENT, hb_apply_chat_template(model, NULL, &message, 1, 7, text, 8, &n));
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start_tokens(session, (uint32_t *)((char *)many + 1), 2, NULL, &place));
    EXPECT(HB_INVALID_ARGUMENT, hb_logits(model, (uint32_t *)((char *)many + 2), 2, NULL, numbers, 8, &n));
    EXPECT(HB_INVALID_ARGUMENT, hb_session_new(model, (hb_session **)(void *)((char *)many + 1)));
    for (i = 0; i < 3; i += 2) {
        EXPECT(HB_INVALID_ARGUMENT, hb_tokenize(model, "", 0, (uint32_t *)((char *)ids + 1), i, &n));
        EXPECT(HB_INVALID_ARGUMENT, hb_session_tokens(session, (uint32_t *)1, i, &n));
        EXPECT(HB_INVALID_ARGUMENT, hb_embed(model, "a", NULL, (float *)((char *)numbers + 2), i, &n));
    }
    EXPECT(HB_INVALID_ARGUMENT, hb_session_set_adapters(session, (hb_adapter **)(void *)((char *)many + 1), NULL, 1));
    EXPECT(HB_INVALID_ARGUMENT, hb_session_set_adapters(session, &adapter, (float *)(void *)((char *)many + 2), 1));
    EXPECT(HB_NOT_FOUND, hb_session_load(model, "/nonexistent/session", &loaded));
    HOLDS(loaded == NULL);
    EXPECT(HB_NOT_FOUND, hb_session_save(session, "/nonexistent/session"));
}

static void write_file(const char *path, const char *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    HOLDS(file != NULL && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
}

/* A GGUF file of version 3 without tensors, whose one value is of a type that there is not. */
static const char MALFORMED[] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
                                "\1\0\0\0\0\0\0\0a\143\0\0\0";

static void wrong_files(void)
{
    static const char path[] = "misuse.file";
    hb_session *loaded;
    hb_model *opened;
    write_file(path, MALFORMED, sizeof MALFORMED - 1);
    EXPECT(HB_MALFORMED, hb_model_open(path, NULL, &opened));
    HOLDS(opened == NULL);
    EXPECT(HB_UNSUPPORTED, hb_session_load(model, path, &loaded));
    HOLDS(loaded == NULL);
    write_file(path, "Once upon a time", 16);
    EXPECT(HB_UNSUPPORTED, hb_model_open(path, NULL, &opened));
    write_file(path, "hbsession\1\0", 11);
    EXPECT(HB_MALFORMED, hb_session_load(model, path, &loaded));
    EXPECT(HB_OK, remove(path));
    EXPECT(HB_IO, hb_session_save(session, "."));
    EXPECT(HB_IO, hb_session_load(model, ".", &loaded));
    EXPECT(HB_NOT_FOUND, hb_session_save(session, "nonexistent/session"));
#ifndef _WIN32
    EXPECT(HB_IO, hb_session_load(model, "/dev/zero", &loaded));
    EXPECT(HB_IO, hb_model_open("/dev/zero", NULL, &opened));
#endif
}

static void texts_too_long(void)
{
    enum { N = (1 << 22) + 2 };
    char *text = malloc(N);
    const char *const stop = text;
    const hb_message message = {"user", text};
    hb_generation_options how = options();
    hb_generation *place;
    float numbers[8];
    size_t n;
    HOLDS(text != NULL);
    memset(text, 'a', N - 1);
    text[N - 1] = '\0';
    how.stop = &stop;
    how.n_stop = 1;
    EXPECT(HB_INVALID_ARGUMENT, hb_tokenize(model, text, 0, NULL, 0, &n));
    EXPECT(HB_INVALID_ARGUMENT, hb_embed(model, text, NULL, numbers, 8, &n));
    EXPECT(HB_INVALID_ARGUMENT, hb_generate(session, text, NULL, go_on, NULL, NULL));
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start_chat(session, NULL, &message, 1, NULL, &place));
    free(text);
}

static void wrong_texts(void)
{
    static const char *const WRONG[] = {"\xFF", "a\xC3", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC0\xAF"};
    hb_message message = {"user", "Hi"};
    hb_generation_options how = options();
    hb_generation *place;
    hb_session *loaded;
    hb_model *opened;
    hb_adapter *wrong;
    char text[64];
    float numbers[8];
    size_t n, i;
    for (i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        const hb_message bad_role = {WRONG[i], "Hi"}, bad_content = {"user", WRONG[i]};
        EXPECT(HB_INVALID_UTF8, hb_model_open(WRONG[i], NULL, &opened));
        EXPECT(HB_INVALID_UTF8, hb_tokenize(model, WRONG[i], 0, NULL, 0, &n));
        EXPECT(HB_INVALID_UTF8, hb_embed(model, WRONG[i], NULL, numbers, 8, &n));
        EXPECT(HB_INVALID_UTF8, hb_session_load(model, WRONG[i], &loaded));
        EXPECT(HB_INVALID_UTF8, hb_session_save(session, WRONG[i]));
        EXPECT(HB_INVALID_UTF8, hb_adapter_open(model, WRONG[i], &wrong));
        EXPECT(HB_INVALID_UTF8, hb_generate(session, WRONG[i], NULL, go_on, NULL, NULL));
        EXPECT(HB_INVALID_UTF8, hb_generation_start(session, WRONG[i], NULL, &place));
        EXPECT(HB_INVALID_UTF8, hb_generation_start_chat(session, NULL, &bad_role, 1, NULL, &place));
        EXPECT(HB_INVALID_UTF8, hb_generation_start_chat(session, NULL, &bad_content, 1, NULL, &place));
        EXPECT(HB_INVALID_UTF8, hb_generation_start_chat(session, WRONG[i], &message, 1, NULL, &place));
        how.stop = &WRONG[i];
        how.n_stop = 1;
        EXPECT(HB_INVALID_UTF8, hb_generation_start(session, "a", &how, &place));
    }
    EXPECT(HB_TEMPLATE, hb_apply_chat_template(model, "{{", &message, 1, 1, text, 64, &n));
    EXPECT(HB_TEMPLATE, hb_apply_chat_template(model, "no such", &message, 1, 1, text, 64, &n));
    EXPECT(HB_TEMPLATE, hb_generation_start_chat(session, "{{", &message, 1, NULL, &place));
    message.role = "king";
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start_chat(session, NULL, &message, 1, NULL, &place));
    EXPECT(HB_NOT_FOUND, hb_model_open("/nonexistent/model.gguf", NULL, &opened));
    EXPECT(HB_NOT_FOUND, hb_model_open("", NULL, &opened));
    EXPECT(HB_NOT_FOUND, hb_adapter_open(model, "/nonexistent/adapter", &wrong));
    EXPECT(HB_UNSUPPORTED, hb_adapter_open(model, ".", &wrong));
    HOLDS(wrong == NULL);
    HOLDS(opened == NULL);
}

int main(void)
{
    const hb_generation_options how = options();
    hb_generation *others = NULL;
    hb_session *other = NULL;
    EXPECT(HB_OK, hb_model_open(NULL, NULL, &model));
    EXPECT(HB_OK, hb_session_new(model, &session));
    EXPECT(HB_OK, hb_session_new(model, &other));
    EXPECT(HB_OK, hb_cancel_new(&cancel));
    HOLDS(write_adapter(model, ADAPTER));
    EXPECT(HB_OK, hb_adapter_open(model, ADAPTER, &adapter));
    EXPECT(HB_OK, hb_generation_start(other, "Once", NULL, &generation));
    wrong_handles();
    null_pointers();
    counts_and_buffers();
    wrong_texts();
    wrong_files();
    texts_too_long();
    /* All of it left everything usable. */
    EXPECT(HB_OK, hb_generate(session, "Once upon a time", &how, go_on, NULL, NULL));
    EXPECT(HB_BUSY, hb_generation_start(other, "Once", NULL, &others));
    EXPECT(HB_OK, hb_generation_free(generation));
    EXPECT(HB_OK, hb_generation_start(other, "Once", NULL, &others));
    EXPECT(HB_OK, hb_model_free(model));
    EXPECT(HB_OK, hb_session_free(other));
    EXPECT(HB_OK, hb_session_free(session));
    EXPECT(HB_OK, hb_generation_free(others));
    EXPECT(HB_OK, hb_cancel_free(cancel));
    EXPECT(HB_OK, hb_adapter_free(adapter));
    remove(ADAPTER);
    return summary("misuse");
}
