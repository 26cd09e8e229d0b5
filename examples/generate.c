/*
 * Writes a story with the embedded model, or with the file that the first argument names.
 *
 *     cc -std=c99 generate.c $(pkg-config --cflags --libs halfbyte) -o generate
 *     ./generate [MODEL.gguf [PROMPT]]
 */

#include <stdio.h>

#include <halfbyte.h>

static int print(const hb_piece *piece, void *user_data)
{
    (void)user_data;
    fputs(piece->text, stdout);
    /* Anything but 0 would end the story here. */
    return fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : NULL;
    const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
    hb_model *model = NULL;
    hb_session *session = NULL;
    hb_generation_options options;
    hb_status status = hb_generation_options_init(&options, sizeof options);

    /* The seed makes the same text again, on any machine and with any number of threads. */
    options.max_new_tokens = 60;
    options.has_seed = 1;
    options.seed = 1;

    if (status == HB_OK) status = hb_model_open(path, NULL, &model);
    if (status == HB_OK) status = hb_session_new(model, &session);
    if (status == HB_OK) {
        fputs(prompt, stdout);
        status = hb_generate(session, prompt, &options, print, NULL, NULL);
        putchar('\n');
    }
    if (status != HB_OK) fprintf(stderr, "%s: %s\n", hb_status_name(status), hb_last_error());
    hb_session_free(session);
    hb_model_free(model);
    return status == HB_OK ? 0 : 1;
}
