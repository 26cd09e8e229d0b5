/* Prints how many tokens a second a C program decodes: speed MODEL N_TOKENS */

#include <stdlib.h>

#include "expect.h"

static int go_on(const hb_piece *piece, void *user_data)
{
    (void)piece, (void)user_data;
    return 0;
}

int main(int argc, char **argv)
{
    hb_generation_report report = {0};
    hb_generation_options options;
    hb_session *session = NULL;
    hb_model *model = NULL;
    if (argc != 3) return 2;
    report.size = sizeof report;
    EXPECT(HB_OK, hb_generation_options_init(&options, sizeof options));
    options.max_new_tokens = strtoull(argv[2], NULL, 10);
    options.has_seed = 1;
    options.seed = 1;
    options.ignore_eos = 1;
    EXPECT(HB_OK, hb_model_open(argv[1], NULL, &model));
    EXPECT(HB_OK, hb_session_new(model, &session));
    EXPECT(HB_OK, hb_generate(session, "Once upon a time", &options, go_on, NULL, &report));
    printf("%.6f\n", (double)(report.new_tokens - 1) / report.decode_seconds);
    hb_session_free(session);
    hb_model_free(model);
    return n_failures == 0 ? 0 : 1;
}
