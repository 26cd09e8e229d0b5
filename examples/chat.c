/*
 * A conversation of two turns; the answers are pulled piece by piece.
 *
 *     cc -std=c99 chat.c $(pkg-config --cflags --libs halfbyte) -o chat
 *     ./chat [MODEL.gguf]
 */

#include <stdio.h>
#include <string.h>

#include <halfbyte.h>

enum { N_QUESTIONS = 2, MAX_ANSWER = 4096 };

static const char *const QUESTIONS[N_QUESTIONS] = {
    "Write a story about a dog named Max.",
    "Write a story about a cat.",
};

/* Prints the answer to n messages, and keeps it: it is a message of the next turn. */
static hb_status answer(hb_session *session, const hb_message *messages, size_t n, char *whole)
{
    char text[256];
    size_t n_bytes = 0;
    hb_generation *generation = NULL;
    hb_generation_options options;
    hb_status status = hb_generation_options_init(&options, sizeof options);

    options.max_new_tokens = 40;
    options.has_seed = 1;
    options.seed = 1;
    whole[0] = '\0';
    if (status == HB_OK) {
        status = hb_generation_start_chat(session, NULL, messages, n, &options, &generation);
    }
    while (status == HB_OK) {
        status = hb_generation_next(generation, text, sizeof text, NULL);
        if (status == HB_OK && n_bytes + strlen(text) < MAX_ANSWER) {
            fputs(text, stdout);
            fflush(stdout);
            strcpy(whole + n_bytes, text);
            n_bytes += strlen(text);
        }
    }
    hb_generation_free(generation);
    return status == HB_END ? HB_OK : status;
}

int main(int argc, char **argv)
{
    static char answers[N_QUESTIONS][MAX_ANSWER];
    hb_message messages[2 * N_QUESTIONS];
    hb_model *model = NULL;
    hb_session *session = NULL;
    int i;
    hb_status status = hb_model_open(argc > 1 ? argv[1] : NULL, NULL, &model);

    if (status == HB_OK) status = hb_session_new(model, &session);
    for (i = 0; i < N_QUESTIONS && status == HB_OK; i++) {
        printf("> %s\n", QUESTIONS[i]);
        messages[2 * i].role = "user";
        messages[2 * i].content = QUESTIONS[i];
        /* The whole conversation each time; what the session knows is not computed again. */
        status = answer(session, messages, 2 * (size_t)i + 1, answers[i]);
        messages[2 * i + 1].role = "assistant";
        messages[2 * i + 1].content = answers[i];
        printf("\n\n");
    }
    if (status != HB_OK) fprintf(stderr, "%s: %s\n", hb_status_name(status), hb_last_error());
    hb_session_free(session);
    hb_model_free(model);
    return status == HB_OK ? 0 : 1;
}
