/* Broken files, one after the other in one process: each has its status, none crashes.
 *
 * The folder that is given holds what `corpus` of the Rust tests wrote: corpus.tsv has a line for each
 * file, with what to open it as, the kind of the error, the path and what is broken. */

#include <string.h>

#include "expect.h"

static const struct {
    const char *kind;
    hb_status status;
} KINDS[] = {
    {"Io", HB_NOT_FOUND},
    {"Malformed", HB_MALFORMED},
    {"MissingTensor", HB_MALFORMED},
    {"Shape", HB_MALFORMED},
    {"UnsupportedFormat", HB_UNSUPPORTED},
    {"UnsupportedEncoding", HB_UNSUPPORTED},
    {"UnsupportedArchitecture", HB_UNSUPPORTED},
    {"Config", HB_MALFORMED},
    {"Tokenizer", HB_TOKENIZER},
    {"Template", HB_TEMPLATE},
};

static hb_status status_of(const char *opens, const char *kind)
{
    size_t i;
    /* An adapter that is sound and not for this library is the caller's choice. */
    if (strcmp(opens, "adapter") == 0 && strcmp(kind, "Config") == 0) return HB_INVALID_ARGUMENT;
    for (i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(kind, KINDS[i].kind) == 0) return KINDS[i].status;
    return HB_OK;
}

static hb_status open_adapter(hb_model *base, const char *path)
{
    hb_adapter *adapter;
    const hb_status status = hb_adapter_open(base, path, &adapter);
    if (status == HB_OK) hb_adapter_free(adapter);
    return status;
}

static hb_status open_model(const char *opens, const char *path)
{
    const hb_message message = {"user", "Hi"};
    uint32_t ids[8];
    char text[64];
    size_t n;
    hb_model *model;
    hb_status status = hb_model_open(path, NULL, &model);
    if (status != HB_OK) return status;
    if (strcmp(opens, "tokenizer") == 0) status = hb_tokenize(model, "a", 0, ids, 8, &n);
    if (strcmp(opens, "template") == 0)
        status = hb_apply_chat_template(model, NULL, &message, 1, 1, text, sizeof text, &n);
    hb_model_free(model);
    return status;
}

/* Ends the word that begins at *rest, and goes behind it. */
static char *word(char **rest)
{
    char *start = *rest, *end = start + strcspn(start, "\t\n");
    *rest = *end == 0 ? end : end + 1;
    *end = 0;
    return start;
}

int main(int argc, char **argv)
{
    char line[4096], path[8192];
    hb_model *base;
    FILE *list;
    if (argc != 2) return 2;
    snprintf(path, sizeof path, "%s/base.gguf", argv[1]);
    EXPECT(HB_OK, hb_model_open(path, NULL, &base));
    snprintf(path, sizeof path, "%s/corpus.tsv", argv[1]);
    list = fopen(path, "r");
    if (list == NULL) return 2;
    while (fgets(line, sizeof line, list) != NULL) {
        char *rest = line, *opens = word(&rest), *kind = word(&rest), *place = word(&rest);
        char *name = word(&rest);
        hb_status found;
        snprintf(path, sizeof path, "%s/%s", argv[1], place);
        found = strcmp(opens, "adapter") == 0 ? open_adapter(base, path) : open_model(opens, path);
        expect_at(place, 0, name, status_of(opens, kind), found);
    }
    fclose(list);
    EXPECT(HB_OK, hb_model_free(base));
    HOLDS(n_cases > 1000);
    return summary("corpus");
}
