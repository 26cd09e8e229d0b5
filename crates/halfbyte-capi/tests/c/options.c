/* Options out of range, structs of other versions, callbacks that misbehave. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "expect.h"

static hb_model *model;
static hb_session *session;

static hb_generation_options options(void)
{
    hb_generation_options found;
    EXPECT(HB_OK, hb_generation_options_init(&found, sizeof found));
    found.max_new_tokens = 8;
    found.has_seed = 1;
    return found;
}

/* Sets one field of the defaults to each of the values; all of them are out of range. */
#define REFUSES(field, type, ...)                                                    \
    do {                                                                             \
        const type values[] = {__VA_ARGS__};                                         \
        size_t i;                                                                    \
        for (i = 0; i < sizeof values / sizeof *values; i++) {                       \
            hb_generation_options how = options();                                   \
            hb_generation *place;                                                    \
            how.field = values[i];                                                   \
            EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place)); \
            HOLDS(strstr(hb_last_error(), #field) != NULL);                          \
        }                                                                            \
    } while (0)

static void values_out_of_range(void)
{
    const char *const empty = "";
    const hb_logit_bias bias = {1, INFINITY};
    const hb_logit_bias nan_bias = {1, NAN}, no_token = {UINT32_MAX, 1};
    hb_generation_options how;
    hb_generation *place;
    REFUSES(temperature, float, NAN, -1, 101, INFINITY);
    REFUSES(top_p, float, NAN, -1, 2);
    REFUSES(min_p, float, NAN, -1, 2);
    REFUSES(typical_p, float, NAN, -1, 2);
    REFUSES(repetition_penalty, float, NAN, 0, -1, 1000);
    REFUSES(presence_penalty, float, NAN, 1000, -1000);
    REFUSES(frequency_penalty, float, NAN, 1000, -1000);
    REFUSES(has_seed, uint32_t, 2, UINT32_MAX);
    REFUSES(ignore_eos, uint32_t, 2, UINT32_MAX);
    REFUSES(logprobs, uint32_t, 2, UINT32_MAX);
    REFUSES(context_policy, uint32_t, 4, UINT32_MAX);
    REFUSES(reserved, uint32_t, 1, UINT32_MAX);
    how = options();
    how.stop = &empty;
    how.n_stop = 1;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    how.n_stop = SIZE_MAX;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    how = options();
    how.logit_bias = &bias;
    how.n_logit_bias = 1;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    how.logit_bias = &nan_bias;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    how.logit_bias = &no_token;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place));
    how.n_logit_bias = SIZE_MAX / 8;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &how, &place));
}

static void models_out_of_range(void)
{
    const uint32_t many[] = {100000, INT32_MAX, UINT32_MAX};
    const float numbers[] = {-1, NAN, INFINITY, -INFINITY};
    hb_model_options opening;
    hb_model *opened;
    size_t i;
    for (i = 0; i < 3; i++) {
        memset(&opening, 0, sizeof opening);
        opening.size = sizeof opening;
        opening.threads = many[i];
        EXPECT(HB_INVALID_ARGUMENT, hb_model_open(NULL, &opening, &opened));
        opening.threads = 0;
        opening.context_length = many[i];
        EXPECT(HB_INVALID_ARGUMENT, hb_model_open(NULL, &opening, &opened));
        opening.context_length = 0;
        opening.cache_type = many[i];
        EXPECT(HB_INVALID_ARGUMENT, hb_model_open(NULL, &opening, &opened));
        opening.cache_type = HB_CACHE_F16;
        opening.n_gqa = many[i];
        EXPECT(HB_INVALID_ARGUMENT, hb_model_open(NULL, &opening, &opened));
    }
    for (i = 0; i < 4; i++) {
        opening.n_gqa = 0;
        opening.rope_base = numbers[i];
        EXPECT(HB_INVALID_ARGUMENT, hb_model_open(NULL, &opening, &opened));
        opening.rope_base = 0;
        opening.rms_eps = numbers[i];
        EXPECT(HB_INVALID_ARGUMENT, hb_model_open(NULL, &opening, &opened));
        opening.rms_eps = 0;
    }
    /* The norms of a GPT-J are of another kind. */
    opening.rms_eps = 1e-5f;
    EXPECT(HB_INVALID_ARGUMENT, hb_model_open(NULL, &opening, &opened));
}

/* A newer header's structs are longer, an older one's cannot be shorter than the first. */
static void sizes(void)
{
    const size_t wrong[] = {0, 1, sizeof(size_t), sizeof(hb_generation_options) - 1, 4097, SIZE_MAX};
    union {
        hb_generation_options options;
        hb_model_info info;
        hb_generation_report report;
        hb_piece piece;
        unsigned char bytes[512];
    } u;
    hb_generation *place;
    char text[256];
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        u.options = options();
        u.options.size = wrong[i];
        EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &u.options, &place));
        EXPECT(HB_INVALID_ARGUMENT, hb_generation_options_init(&u.options, wrong[i]));
    }
    EXPECT(HB_OK, hb_generation_options_init(&u.options, sizeof u));
    HOLDS(u.options.size == sizeof u && u.bytes[sizeof(hb_generation_options)] == 0);
    EXPECT(HB_OK, hb_generation_start(session, "a", &u.options, &place));
    EXPECT(HB_OK, hb_generation_free(place));
    u.bytes[sizeof u - 1] = 1;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_start(session, "a", &u.options, &place));
    HOLDS(place == NULL);

    /* What a newer struct has besides is zeroed, and what lies behind it is not touched. */
    memset(&u, 7, sizeof u);
    u.info.size = sizeof u - 8;
    EXPECT(HB_OK, hb_model_get_info(model, &u.info));
    HOLDS(u.info.size == sizeof u - 8 && u.bytes[sizeof(hb_model_info)] == 0);
    HOLDS(u.bytes[sizeof u - 9] == 0 && u.bytes[sizeof u - 8] == 7);
    HOLDS(strlen(u.info.architecture) > 0 && u.info.vocab_size > 0 && u.info.hidden_size > 0);
    u.info.size = 8;
    EXPECT(HB_INVALID_ARGUMENT, hb_model_get_info(model, &u.info));

    EXPECT(HB_OK, hb_generation_start(session, "a", NULL, &place));
    u.piece.size = 0;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_next(place, text, sizeof text, &u.piece));
    u.report.size = 0;
    EXPECT(HB_INVALID_ARGUMENT, hb_generation_get_report(place, &u.report));
    u.report.size = sizeof u;
    EXPECT(HB_OK, hb_generation_get_report(place, &u.report));
    HOLDS(u.report.size == sizeof u && u.report.new_tokens == 0);
    EXPECT(HB_OK, hb_generation_free(place));
}

/* What programs that were compiled with the first version pass: these numbers stay as they are. */
static void first_sizes(void)
{
#define FIRST(type, bytes) (sizeof(void *) == 8 ? (bytes) : sizeof(type))
    hb_generation_options how = options();
    hb_generation_report report = {0};
    hb_model_options opening = {0};
    hb_model_info info = {0};
    hb_piece piece = {0};
    hb_generation *place;
    hb_model *opened;
    char text[256];
    opening.size = FIRST(hb_model_options, 56);
    EXPECT(HB_OK, hb_model_open(NULL, &opening, &opened));
    info.size = FIRST(hb_model_info, 248);
    EXPECT(HB_OK, hb_model_get_info(opened, &info));
    EXPECT(HB_OK, hb_model_free(opened));
    EXPECT(HB_OK, hb_generation_options_init(&how, FIRST(hb_generation_options, 136)));
    how.size = FIRST(hb_generation_options, 136);
    EXPECT(HB_OK, hb_generation_start(session, "a", &how, &place));
    piece.size = FIRST(hb_piece, 32);
    EXPECT(HB_OK, hb_generation_next(place, text, sizeof text, &piece));
    report.size = FIRST(hb_generation_report, 64);
    EXPECT(HB_OK, hb_generation_get_report(place, &report));
    HOLDS(report.new_tokens == 1);
    EXPECT(HB_OK, hb_generation_free(place));
#undef FIRST
}

/* A piece that does not fit comes again. */
static void small_buffers(void)
{
    const hb_generation_options how = options();
    hb_generation *place;
    hb_status status;
    hb_piece piece = {0};
    char small[1], large[256];
    size_t n = 0;
    piece.size = sizeof piece;
    EXPECT(HB_OK, hb_generation_start(session, "Once upon a time", &how, &place));
    while ((status = hb_generation_next(place, small, sizeof small, &piece)) != HB_END && n < 100) {
        n++;
        if (status == HB_OK) continue; /* no text yet */
        EXPECT(HB_BUFFER_TOO_SMALL, status);
        HOLDS(piece.text == NULL && piece.text_bytes > 0);
        EXPECT(HB_BUFFER_TOO_SMALL, hb_generation_next(place, small, sizeof small, &piece));
        EXPECT(HB_OK, hb_generation_next(place, large, sizeof large, &piece));
        HOLDS(piece.text == large && strlen(large) == piece.text_bytes);
    }
    HOLDS(n == 8);
    EXPECT(HB_END, hb_generation_next(place, large, sizeof large, NULL));
    EXPECT(HB_OK, hb_generation_free(place));
}

struct told {
    int n;
    hb_cancel *cancel;
};

static int stop_at_third(const hb_piece *piece, void *user_data)
{
    HOLDS(piece->size >= sizeof *piece && isnan(piece->logprob));
    return ++((struct told *)user_data)->n == 3;
}

/* Calls what uses the session that is generating, and other things, which work. */
static int reenter(const hb_piece *piece, void *user_data)
{
    hb_generation *place;
    hb_session *other;
    size_t n;
    struct told *told = user_data;
    (void)piece;
    if (told->n++ > 0) return 0;
    EXPECT(HB_BUSY, hb_session_reset(session));
    EXPECT(HB_BUSY, hb_session_save(session, "session"));
    EXPECT(HB_BUSY, hb_session_tokens(session, NULL, 0, &n));
    EXPECT(HB_BUSY, hb_generation_start(session, "a", NULL, &place));
    EXPECT(HB_BUSY, hb_generate(session, "a", NULL, reenter, told, NULL));
    EXPECT(HB_OK, hb_tokenize(model, "a", 0, NULL, 0, &n));
    EXPECT(HB_OK, hb_session_new(model, &other));
    {
        hb_generation_options how = options();
        how.max_new_tokens = 2;
        EXPECT(HB_OK, hb_generate(other, "a", &how, reenter, told, NULL));
    }
    EXPECT(HB_OK, hb_session_free(other));
    return 0;
}

static int free_all(const hb_piece *piece, void *user_data)
{
    hb_session **mine = user_data;
    (void)piece;
    if (*mine == NULL) return 0;
    EXPECT(HB_OK, hb_session_free(*mine));
    EXPECT(HB_INVALID_HANDLE, hb_session_free(*mine));
    *mine = NULL;
    return 0;
}

static int stop_brake(const hb_piece *piece, void *user_data)
{
    struct told *told = user_data;
    (void)piece;
    told->n++;
    EXPECT(HB_OK, hb_cancel_stop(told->cancel));
    EXPECT(HB_OK, hb_cancel_free(told->cancel));
    return 0;
}

static void callbacks(void)
{
    struct told told = {0, NULL};
    hb_generation_options how = options();
    hb_generation_report report = {0};
    hb_session *mine, *freed;
    report.size = sizeof report;
    EXPECT(HB_OK, hb_generate(session, "a", &how, stop_at_third, &told, &report));
    HOLDS(told.n == 3 && report.finish_reason == HB_FINISH_CANCELLED && report.new_tokens == 3);
    /* Where the third is the last there is nothing to stop. */
    told.n = 0;
    how.max_new_tokens = 3;
    EXPECT(HB_OK, hb_generate(session, "a", &how, stop_at_third, &told, &report));
    HOLDS(told.n == 3 && report.finish_reason == HB_FINISH_LENGTH);
    how.max_new_tokens = 8;
    told.n = 0;
    EXPECT(HB_OK, hb_generate(session, "a", &how, reenter, &told, &report));
    HOLDS(report.finish_reason == HB_FINISH_LENGTH && report.new_tokens == 8);
    EXPECT(HB_OK, hb_session_new(model, &mine));
    freed = mine;
    EXPECT(HB_OK, hb_generate(mine, "a", &how, free_all, &mine, &report));
    HOLDS(report.new_tokens == 8);
    EXPECT(HB_INVALID_HANDLE, hb_session_reset(freed));
    told.n = 0;
    EXPECT(HB_OK, hb_cancel_new(&told.cancel));
    how.cancel = told.cancel;
    EXPECT(HB_CANCELLED, hb_generate(session, "a", &how, stop_brake, &told, &report));
    HOLDS(told.n == 1 && report.finish_reason == HB_FINISH_CANCELLED);
    how.cancel = NULL;
    report.size = 3;
    EXPECT(HB_INVALID_ARGUMENT, hb_generate(session, "a", &how, stop_at_third, &told, &report));
}

static void log_message(int32_t level, const char *message, void *user_data)
{
    struct told *told = user_data;
    if (level == HB_LOG_ERROR && strlen(message) > 0) told->n++;
    if (level == HB_LOG_ERROR) HOLDS(strcmp(message, hb_last_error()) == 0);
    if (level == HB_LOG_INFO && strstr(message, "opened") != NULL) told->n += 100;
    /* What fails in here is not told again. */
    EXPECT(HB_NULL_ARGUMENT, hb_session_reset(NULL));
}

static void log_hears(void)
{
    struct told told = {0, NULL};
    hb_model *opened;
    EXPECT(HB_OK, hb_set_log(log_message, &told));
    EXPECT(HB_OK, hb_model_open(NULL, NULL, &opened));
    HOLDS(told.n == 100);
    EXPECT(HB_OK, hb_model_free(opened));
    EXPECT(HB_INVALID_HANDLE, hb_model_free(opened));
    HOLDS(told.n == 101 && strstr(hb_last_error(), "model") != NULL);
    EXPECT(HB_OK, hb_set_log(NULL, NULL));
    EXPECT(HB_INVALID_HANDLE, hb_model_free(opened));
    HOLDS(told.n == 101);
}

int main(void)
{
    EXPECT(HB_OK, hb_model_open(NULL, NULL, &model));
    EXPECT(HB_OK, hb_session_new(model, &session));
    values_out_of_range();
    models_out_of_range();
    sizes();
    first_sizes();
    small_buffers();
    callbacks();
    log_hears();
    EXPECT(HB_OK, hb_session_free(session));
    EXPECT(HB_OK, hb_model_free(model));
    return summary("options");
}
