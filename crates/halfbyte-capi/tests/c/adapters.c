/* LoRA adapters: sessions and models with them, switched, freed early, saved. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "expect.h"

enum { TOKENS = 4 };

static const uint32_t PROMPT[TOKENS] = {5, 6, 7, 8};

static int go_on(const hb_piece *piece, void *user_data)
{
    char *text = (char *)user_data;
    strncat(text, piece->text, 400 - strlen(text));
    return 0;
}

/* What a session writes after a fixed prompt; the same every time. */
static void write_text(hb_session *session, char *text)
{
    hb_generation_options how;
    EXPECT(HB_OK, hb_generation_options_init(&how, sizeof how));
    how.max_new_tokens = 12;
    how.temperature = 0;
    text[0] = 0;
    EXPECT(HB_OK, hb_generate(session, "Once upon a time", &how, go_on, text, NULL));
}

/* The logits after the prompt. */
static float *logits_of(hb_model *model, size_t *n)
{
    float *numbers;
    EXPECT(HB_OK, hb_logits(model, PROMPT, TOKENS, NULL, NULL, 0, n));
    numbers = (float *)malloc(*n * sizeof *numbers);
    EXPECT(HB_OK, hb_logits(model, PROMPT, TOKENS, NULL, numbers, *n, n));
    return numbers;
}

int main(void)
{
    static const char PATH[] = "adapters-adapter.bin", SESSION[] = "adapters-session.bin";
    const float half[] = {0.5f, 0.5f}, none = 0, endless = (float)HUGE_VAL;
    char plain[512], adapted[512], found[512];
    hb_model *model, *with, *without, *with_none;
    hb_session *session, *other, *loaded;
    hb_adapter *adapter, *twice[2];
    float *base, *changed, *same;
    size_t n;
    EXPECT(HB_OK, hb_model_open(NULL, NULL, &model));
    HOLDS(write_adapter(model, PATH));
    EXPECT(HB_OK, hb_adapter_open(model, PATH, &adapter));
    EXPECT(HB_OK, hb_session_new(model, &session));
    write_text(session, plain);

    EXPECT(HB_OK, hb_session_set_adapters(session, &adapter, NULL, 1));
    write_text(session, adapted);
    HOLDS(strcmp(plain, adapted) != 0);
    EXPECT(HB_OK, hb_session_reset(session)); /* Keeps the adapters. */
    write_text(session, found);
    HOLDS(strcmp(found, adapted) == 0);
    twice[0] = twice[1] = adapter;
    EXPECT(HB_OK, hb_session_set_adapters(session, twice, half, 2));
    write_text(session, found);
    HOLDS(strcmp(found, adapted) == 0);
    EXPECT(HB_OK, hb_session_set_adapters(session, &adapter, &none, 1));
    write_text(session, found);
    HOLDS(strcmp(found, plain) == 0);
    EXPECT(HB_OK, hb_session_set_adapters(session, NULL, NULL, 0));
    write_text(session, found);
    HOLDS(strcmp(found, plain) == 0);

    EXPECT(HB_OK, hb_model_with_adapters(model, &adapter, NULL, 1, &with));
    EXPECT(HB_OK, hb_model_with_adapters(with, NULL, NULL, 0, &without));
    base = logits_of(model, &n);
    changed = logits_of(with, &n);
    same = logits_of(without, &n);
    HOLDS(memcmp(base, changed, n * sizeof *base) != 0);
    HOLDS(memcmp(base, same, n * sizeof *base) == 0);
    free(base);
    free(changed);
    free(same);
    EXPECT(HB_INVALID_ARGUMENT, hb_session_set_adapters(session, &adapter, &endless, 1));
    write_text(session, found);
    HOLDS(strcmp(found, plain) == 0);
    EXPECT(HB_INVALID_ARGUMENT, hb_model_with_adapters(model, &adapter, &endless, 1, &with_none));
    HOLDS(with_none == NULL);

    /* What uses an adapter or the weights keeps them. */
    EXPECT(HB_OK, hb_session_set_adapters(session, &adapter, NULL, 1));
    EXPECT(HB_OK, hb_adapter_free(adapter));
    EXPECT(HB_INVALID_HANDLE, hb_session_set_adapters(session, &adapter, NULL, 1));
    EXPECT(HB_OK, hb_session_save(session, SESSION));
    EXPECT(HB_INVALID_ARGUMENT, hb_session_load(model, SESSION, &loaded));
    EXPECT(HB_OK, hb_session_load(with, SESSION, &loaded));
    EXPECT(HB_OK, hb_model_free(model));
    EXPECT(HB_OK, hb_session_new(with, &other));
    write_text(session, found);
    HOLDS(strcmp(found, adapted) == 0);
    write_text(loaded, found);
    HOLDS(strcmp(found, adapted) == 0);
    write_text(other, found);
    HOLDS(strcmp(found, adapted) == 0);

    EXPECT(HB_OK, hb_session_free(session));
    EXPECT(HB_OK, hb_session_free(loaded));
    EXPECT(HB_OK, hb_session_free(other));
    EXPECT(HB_OK, hb_model_free(with));
    EXPECT(HB_OK, hb_model_free(without));
    remove(PATH);
    remove(SESSION);
    return summary("adapters");
}
