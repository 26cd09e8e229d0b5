/* Writes the logits after the given tokens as raw floats, as the Rust program of that name does. */

#include <stdlib.h>

#include "expect.h"

int main(int argc, char **argv)
{
    static uint32_t tokens[64];
    const int n_tokens = argc - 2;
    hb_model *model = NULL;
    float *logits = NULL;
    size_t n = 0;
    int i;
    if (n_tokens < 1 || n_tokens > 64) return 2;
    for (i = 0; i < n_tokens; i++) tokens[i] = (uint32_t)strtoul(argv[i + 2], NULL, 10);
    EXPECT(HB_OK, hb_model_open(argv[1], NULL, &model));
    EXPECT(HB_OK, hb_logits(model, tokens, (size_t)n_tokens, NULL, NULL, 0, &n));
    logits = malloc(n * sizeof *logits);
    EXPECT(HB_OK, hb_logits(model, tokens, (size_t)n_tokens, NULL, logits, n, &n));
    if (n_failures == 0) HOLDS(fwrite(logits, sizeof *logits, n, stdout) == n);
    free(logits);
    hb_model_free(model);
    return n_failures == 0 ? 0 : 1;
}
