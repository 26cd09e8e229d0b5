/*
 * Threads on one model, brakes while loading, reading and writing, freeing what is in use, a fork.
 *
 *     stress [quick]
 *
 * "quick" is for observers such as valgrind: fewer threads, and no fork, whose child loses the memory
 * of threads that it does not have.
 */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

enum { MAX_THREADS = 64, N_TOKENS = 6 };

static hb_model *model;

static void sleep_ms(long ms)
{
    struct timespec time = {0, 0};
    time.tv_nsec = ms * 1000000;
    nanosleep(&time, NULL);
}

static hb_generation_options options(uint64_t n)
{
    hb_generation_options found;
    EXPECT(HB_OK, hb_generation_options_init(&found, sizeof found));
    found.max_new_tokens = n;
    found.has_seed = 1;
    found.ignore_eos = 1;
    found.context_policy = HB_CONTEXT_SHIFT;
    return found;
}

/* A thread's own work and what it saw; only the main thread counts cases. */
struct job {
    pthread_t thread;
    hb_session *session;
    hb_generation *generation;
    hb_generation_options options;
    const char *prompt;
    hb_generation_report report;
    hb_status status;
    char text[1024];
    volatile int *began;
};

static int append(const hb_piece *piece, void *user_data)
{
    struct job *job = user_data;
    if (strlen(job->text) + piece->text_bytes < sizeof job->text) strcat(job->text, piece->text);
    if (job->began != NULL) __atomic_store_n(job->began, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static void *generate(void *data)
{
    struct job *job = data;
    hb_session *session = job->session;
    job->text[0] = '\0';
    job->report.size = sizeof job->report;
    job->status = session == NULL ? hb_session_new(model, &session) : HB_OK;
    if (job->status == HB_OK) {
        job->status = hb_generate(session, job->prompt, &job->options, append, job, &job->report);
    }
    if (job->session == NULL) hb_session_free(session);
    /* Nobody may wait for a piece that does not come. */
    if (job->began != NULL) __atomic_store_n(job->began, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void many_threads(int n_threads)
{
    static struct job jobs[MAX_THREADS];
    int i;
    for (i = 0; i < n_threads; i++) {
        jobs[i].options = options(N_TOKENS);
        jobs[i].options.seed = (uint64_t)(i % 4);
        jobs[i].prompt = "Once upon a time";
        HOLDS(pthread_create(&jobs[i].thread, NULL, generate, &jobs[i]) == 0);
    }
    for (i = 0; i < n_threads; i++) {
        pthread_join(jobs[i].thread, NULL);
        EXPECT(HB_OK, jobs[i].status);
        HOLDS(strlen(jobs[i].text) > 0 && strcmp(jobs[i].text, jobs[i % 4].text) == 0);
    }
}

static void stop_loading(uint64_t done, uint64_t total, void *user_data)
{
    HOLDS(done <= total);
    EXPECT(HB_OK, hb_cancel_stop(*(hb_cancel **)user_data));
}

static void brakes(void)
{
    static struct job job;
    static char long_prompt[1500];
    hb_model_options opening = {0};
    hb_model *opened = model;
    hb_cancel *cancel;
    volatile int began = 0;
    const uint32_t tokens[2] = {1, 2};
    float *numbers;
    size_t n;
    EXPECT(HB_OK, hb_cancel_new(&cancel));
    opening.size = sizeof opening;
    opening.cancel = cancel;
    opening.progress = stop_loading;
    opening.progress_data = &cancel;
    EXPECT(HB_CANCELLED, hb_model_open(NULL, &opening, &opened));
    HOLDS(opened == NULL);
    /* A brake stays stopped, for whatever it is given to. */
    job.options = options(4);
    job.options.cancel = cancel;
    job.prompt = "Once";
    generate(&job);
    EXPECT(HB_CANCELLED, job.status);
    EXPECT(HB_OK, hb_logits(model, tokens, 2, NULL, NULL, 0, &n));
    numbers = malloc(n * sizeof *numbers);
    EXPECT(HB_CANCELLED, hb_logits(model, tokens, 2, cancel, numbers, n, &n));
    EXPECT(HB_CANCELLED, hb_embed(model, "a", cancel, numbers, n, &n));
    free(numbers);
    EXPECT(HB_OK, hb_cancel_free(cancel));

    /* In the middle of a prompt, by its progress. */
    EXPECT(HB_OK, hb_cancel_new(&cancel));
    while (strlen(long_prompt) + 16 < sizeof long_prompt) strcat(long_prompt, "The cat sat. ");
    job.options.cancel = cancel;
    job.options.progress = stop_loading;
    job.options.progress_data = &cancel;
    job.prompt = long_prompt;
    generate(&job);
    EXPECT(HB_CANCELLED, job.status);
    HOLDS(job.text[0] == '\0' && job.report.new_tokens == 0 && job.report.prompt_tokens > 264);
    EXPECT(HB_OK, hb_cancel_free(cancel));

    /* While it writes, from another thread. */
    EXPECT(HB_OK, hb_cancel_new(&cancel));
    job.options = options(UINT64_MAX);
    job.options.cancel = cancel;
    job.prompt = "Once";
    job.began = &began;
    HOLDS(pthread_create(&job.thread, NULL, generate, &job) == 0);
    while (!__atomic_load_n(&began, __ATOMIC_SEQ_CST)) sleep_ms(1);
    EXPECT(HB_OK, hb_cancel_stop(cancel));
    pthread_join(job.thread, NULL);
    EXPECT(HB_CANCELLED, job.status);
    HOLDS(job.text[0] != '\0');
    EXPECT(HB_OK, hb_cancel_free(cancel));
}

/* The session, its model and its brake are freed while it writes; it ends as if nothing was. */
static void free_while_generating(void)
{
    static struct job job, undisturbed;
    hb_model *mine;
    hb_session *again;
    hb_cancel *cancel;
    volatile int began = 0;
    undisturbed.options = options(24);
    undisturbed.prompt = "Once";
    generate(&undisturbed);
    EXPECT(HB_OK, undisturbed.status);
    EXPECT(HB_OK, hb_model_open(NULL, NULL, &mine));
    EXPECT(HB_OK, hb_session_new(mine, &job.session));
    EXPECT(HB_OK, hb_cancel_new(&cancel));
    job.options = options(24);
    job.options.cancel = cancel;
    job.prompt = "Once";
    job.began = &began;
    HOLDS(pthread_create(&job.thread, NULL, generate, &job) == 0);
    while (!__atomic_load_n(&began, __ATOMIC_SEQ_CST)) sleep_ms(1);
    EXPECT(HB_OK, hb_model_free(mine));
    EXPECT(HB_OK, hb_session_free(job.session));
    EXPECT(HB_OK, hb_cancel_free(cancel));
    EXPECT(HB_INVALID_HANDLE, hb_session_new(mine, &again));
    pthread_join(job.thread, NULL);
    EXPECT(HB_OK, job.status);
    HOLDS(undisturbed.text[0] != '\0' && strcmp(job.text, undisturbed.text) == 0);
    EXPECT(HB_INVALID_HANDLE, hb_session_reset(job.session));
}

static void *pull(void *data)
{
    struct job *job = data;
    char text[256];
    for (;;) {
        const hb_status status = hb_generation_next(job->generation, text, sizeof text, NULL);
        if (status == HB_OK || status == HB_BUSY) continue;
        job->status = status;
        return NULL;
    }
}

/* Several threads pull from one generation, and somebody frees it. */
static void one_generation_many_threads(int is_freed)
{
    static struct job jobs[4];
    const hb_generation_options how = options(is_freed ? 2000 : 24);
    hb_session *session;
    int i;
    EXPECT(HB_OK, hb_session_new(model, &session));
    EXPECT(HB_OK, hb_generation_start(session, "Once", &how, &jobs[0].generation));
    for (i = 0; i < 4; i++) {
        jobs[i].generation = jobs[0].generation;
        HOLDS(pthread_create(&jobs[i].thread, NULL, pull, &jobs[i]) == 0);
    }
    if (is_freed) {
        sleep_ms(20);
        EXPECT(HB_OK, hb_generation_free(jobs[0].generation));
    }
    for (i = 0; i < 4; i++) {
        pthread_join(jobs[i].thread, NULL);
        EXPECT(is_freed ? HB_INVALID_HANDLE : HB_END, jobs[i].status);
    }
    /* The session came home. */
    EXPECT(HB_OK, hb_session_reset(session));
    EXPECT(HB_OK, hb_session_free(session));
    EXPECT(is_freed ? HB_INVALID_HANDLE : HB_OK, hb_generation_free(jobs[0].generation));
}

static void *fail(void *data)
{
    char *message = data;
    hb_session_reset(NULL);
    strncpy(message, hb_last_error(), 99);
    return NULL;
}

static void errors_are_the_threads_own(void)
{
    static char message[100];
    pthread_t thread;
    EXPECT(HB_NULL_ARGUMENT, hb_cancel_stop(NULL));
    HOLDS(pthread_create(&thread, NULL, fail, message) == 0);
    pthread_join(thread, NULL);
    HOLDS(strstr(message, "session") != NULL && strstr(hb_last_error(), "cancel") != NULL);
}

static void fork_is_told(void)
{
    hb_session *session, *busy, *other;
    hb_generation *generation, *place;
    char text[256];
    pid_t child;
    int status = -1;
    EXPECT(HB_OK, hb_session_new(model, &session));
    EXPECT(HB_OK, hb_session_new(model, &busy));
    EXPECT(HB_OK, hb_generation_start(busy, "a", NULL, &generation));
    child = fork();
    if (child == 0) {
        const int told = hb_session_new(model, &other) == HB_FORKED
            && hb_generation_start(session, "a", NULL, &place) == HB_FORKED
            && hb_generation_next(generation, text, sizeof text, NULL) == HB_FORKED;
        _exit(told ? 0 : 1);
    }
    HOLDS(waitpid(child, &status, 0) == child && status == 0);
    EXPECT(HB_OK, hb_generation_free(generation));
    EXPECT(HB_OK, hb_session_free(busy));
    EXPECT(HB_OK, hb_session_free(session));
}

int main(int argc, char **argv)
{
    const int is_quick = argc > 1 && strcmp(argv[1], "quick") == 0;
    EXPECT(HB_OK, hb_model_open(NULL, NULL, &model));
    many_threads(is_quick ? 4 : MAX_THREADS);
    brakes();
    free_while_generating();
    one_generation_many_threads(0);
    one_generation_many_threads(1);
    errors_are_the_threads_own();
    if (!is_quick) fork_is_told();
    EXPECT(HB_OK, hb_model_free(model));
    return summary("stress");
}
