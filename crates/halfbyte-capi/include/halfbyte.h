/*
 * halfbyte: 4-bit language models on ordinary CPUs, for C and C++.
 *
 *     hb_model *model;
 *     if (hb_model_open("groovy.gguf", NULL, &model) != HB_OK) {
 *         fputs(hb_last_error(), stderr);
 *     }
 *
 * What holds for all of it:
 *
 * Results. A function that can fail returns a status; its results go through pointers. HB_OK is 0.
 * hb_last_error() says what was wrong and what would be right. Nothing is printed, but for lines on
 * stderr where halfbyte itself made a mistake (HB_INTERNAL). No wrong argument ends the process; a
 * model file that is written to while it is opened may (hb_model_open).
 *
 * Any function may give HB_NULL_ARGUMENT, HB_INVALID_HANDLE, HB_INVALID_ARGUMENT, HB_OUT_OF_MEMORY and
 * HB_INTERNAL; one with a text HB_INVALID_UTF8; one that uses a session or generation HB_BUSY; one that
 * uses a model, also through these, HB_FORKED. What it may give besides, its comment says.
 *
 * Memory for weights, keys and values, work and results that cannot be had is HB_OUT_OF_MEMORY. Only
 * where not even a megabyte, or a few hundred bytes for each byte of the call's texts, are left may the
 * process abort.
 *
 * Handles. Models, sessions, generations and brakes (hb_cancel) are handles, not addresses: a language
 * that minds pointers to nowhere keeps them as integers of that size. One that was freed, or that is
 * of another kind, gives HB_INVALID_HANDLE; freeing what a running call uses is safe. The functions
 * that free take NULL and do nothing. Handles may be used in any order and freed in any order, on any
 * thread.
 *
 * Pointers. A pointer is NULL, or it points to what its function says: a text that ends with NUL, or
 * as many elements as the count beside it says. The caller keeps inputs unchanged, and lets nobody
 * touch outputs, until the call returns; halfbyte keeps no pointer of the caller's longer, but for
 * callbacks and user_data. NULL where it is not allowed gives HB_NULL_ARGUMENT, and an address that
 * is not aligned HB_INVALID_ARGUMENT. Texts are UTF-8, of at most 4 MiB; inputs have at most 2^24
 * elements.
 *
 * Callbacks, and what their user_data points to, live as long as calls may run them. Those of
 * hb_model_open and hb_generate: until the call returns. Those of a started generation: until it has
 * ended or was freed, and no call on it runs any more. That of hb_set_log: until another was set, and
 * every call on another thread that began before has returned.
 *
 * Ownership. The caller owns every buffer. Handles that a function makes are freed with the function
 * of the same name that ends in _free. Texts that a function returns are never freed.
 *
 * Structs that begin with their size, which the caller sets, may get more fields at their end (up to
 * 4096 bytes); hb_message and hb_logit_bias, of which there are arrays, never change. A program keeps
 * working with a newer library, and with an older one as long as it leaves new fields at zero; what an
 * older one does not know to fill is zero.
 *
 * Threads. Any function may be called on any thread. Calls on one model run side by side; a session
 * or generation serves one call at a time, and a generation that neither ended nor was freed has its
 * session: HB_BUSY. The same inputs give the same bits, whatever the threads.
 *
 * An hb_cancel stops loading, prompts and generating within milliseconds. It does not stop three
 * things: reading a file's tables, tokenizing a text (a second or two for the longest), and a chat
 * template (a second at most).
 *
 * A process forks only while none of its threads is inside halfbyte: locks that are held stay held in
 * the child. The library must not be unloaded once it was used: threads of freed models end in their own
 * time.
 *
 * Made from crates/halfbyte-capi by `cargo xtask header --bless`. Do not edit.
 */

#ifndef HALFBYTE_H
#define HALFBYTE_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of this interface. It grows when something that was there changes, which is not
 * planned; functions, fields at the end of structs, and numbers may be added without.
 */
#define HB_ABI_VERSION 1

/**
 * A failure, with the message that hb_last_error has, too.
 */
#define HB_LOG_ERROR 1

/**
 * Something worth knowing: a model was opened.
 */
#define HB_LOG_INFO 2

/**
 * Keys and values as 16-bit floats: the default.
 */
#define HB_CACHE_F16 0

/**
 * Keys and values as 32-bit floats.
 */
#define HB_CACHE_F32 1

/**
 * Keys and values as 8-bit integers.
 */
#define HB_CACHE_Q8 2

/**
 * hb_tokenize: puts the token that starts a text in front, if the model's file asks for it.
 */
#define HB_ADD_BOS 1

/**
 * hb_tokenize: takes spelled special tokens, as chat templates write them, for those tokens. Never
 * for text that a stranger wrote.
 */
#define HB_PARSE_SPECIAL 2

/**
 * HB_CONTEXT_ERROR for a prompt, HB_CONTEXT_DROP_OLDEST_TURNS for messages: the default.
 */
#define HB_CONTEXT_DEFAULT 0

/**
 * A prompt that does not fit is HB_CONTEXT_FULL; a generation ends where the context ends.
 */
#define HB_CONTEXT_ERROR 1

/**
 * As HB_CONTEXT_ERROR, but of messages the oldest turns are left out first.
 */
#define HB_CONTEXT_DROP_OLDEST_TURNS 2

/**
 * Drops the oldest half of the tokens and goes on. HB_INVALID_ARGUMENT for a model with an encoder.
 */
#define HB_CONTEXT_SHIFT 3

/**
 * It goes on.
 */
#define HB_FINISH_NONE 0

/**
 * The model said that it is done.
 */
#define HB_FINISH_STOP 1

/**
 * A stop text was generated.
 */
#define HB_FINISH_STOP_TEXT 2

/**
 * max_new_tokens or the end of the context was reached.
 */
#define HB_FINISH_LENGTH 3

/**
 * Its hb_cancel or its callback stopped it.
 */
#define HB_FINISH_CANCELLED 4

/**
 * A failure ended it, which the call that met it returned.
 */
#define HB_FINISH_FAILED 5

/**
 * A LoRA adapter for the models of one shape. A handle. Immutable: any number of models, sessions
 * and threads may share it.
 */
typedef struct hb_adapter hb_adapter;

/**
 * A brake: stops every call that it was given to. A handle; any thread may use and free it.
 */
typedef struct hb_cancel hb_cancel;

/**
 * A running generation, whose pieces are pulled one by one. A handle. It has its session until it
 * ends or is freed. One call at a time: a second one gives HB_BUSY at once.
 */
typedef struct hb_generation hb_generation;

/**
 * A loaded model. A handle. Immutable: any number of threads and sessions may share it.
 */
typedef struct hb_model hb_model;

/**
 * One text with its keys and values, kept between calls, so that what stays the same is not
 * computed again. A handle. One call at a time: a second one gives HB_BUSY at once.
 */
typedef struct hb_session hb_session;

/**
 * What a function says at its end: one of the HB_ numbers below. A number never changes its
 * meaning; later versions may add numbers, so treat one that you do not know as a failure.
 */
typedef int32_t hb_status;

/**
 * Takes a message; level is HB_LOG_ERROR or HB_LOG_INFO, or one that a later version adds.
 *
 * The message lives until the callback returns. Runs on whichever thread made the call, also on
 * several at once; the rules of hb_piece_callback hold. What it causes itself is not logged.
 */
typedef void (*hb_log_callback)(int32_t level, const char *message, void *user_data);

/**
 * Hears how far a call has come: bytes while loading, tokens of a prompt. Runs on the thread that
 * made the call; the rules of hb_piece_callback hold. To stop the work, stop its hb_cancel.
 */
typedef void (*hb_progress_callback)(uint64_t done, uint64_t total, void *user_data);

/**
 * How to open a model. All zeros but the size is the default:
 *
 *     hb_model_options options = {0};
 *     options.size = sizeof options;
 */
typedef struct hb_model_options {
    /**
     * sizeof(hb_model_options).
     */
    size_t size;
    /**
     * Threads that compute, up to 1024, of which at most four for each core are started; 0 for the
     * physical cores that this process may use.
     */
    uint32_t threads;
    /**
     * Tokens that a session may hold, 1 to the model's own; 0 for the model's own.
     */
    uint32_t context_length;
    /**
     * HB_CACHE_F16, HB_CACHE_F32 or HB_CACHE_Q8.
     */
    uint32_t cache_type;
    /**
     * Query heads for each key/value head, for files of 2023 that do not say: 8 for LLaMA 2 70B. 0
     * for what the file says.
     */
    uint32_t n_gqa;
    /**
     * Epsilon of the RMS norms, above 0; 0 for what the file says.
     */
    float rms_eps;
    /**
     * Base of the rotary frequencies, above 0; 0 for what the file says.
     */
    float rope_base;
    /**
     * Hears (bytes loaded, bytes in all), or NULL.
     */
    hb_progress_callback progress;
    /**
     * Handed to progress.
     */
    void *progress_data;
    /**
     * Stops the loading, or NULL.
     */
    struct hb_cancel *cancel;
} hb_model_options;

/**
 * What a model is.
 */
typedef struct hb_model_info {
    /**
     * sizeof(hb_model_info), set by the caller.
     */
    size_t size;
    /**
     * The name in the file; empty if it has none. Cut at a whole character.
     */
    char name[128];
    /**
     * The architecture, such as "llama".
     */
    char architecture[32];
    /**
     * The instruction set that computes, such as "avx2".
     */
    char isa[32];
    /**
     * Tokens that a session may hold.
     */
    uint32_t context_length;
    /**
     * Tokens in the vocabulary: the logits after one token.
     */
    uint32_t vocab_size;
    /**
     * Elements of an embedding.
     */
    uint32_t hidden_size;
    /**
     * Blocks.
     */
    uint32_t n_layers;
    /**
     * Heads of attention.
     */
    uint32_t n_heads;
    /**
     * Heads of keys and values.
     */
    uint32_t n_kv_heads;
    /**
     * Threads that compute.
     */
    uint32_t threads;
    /**
     * HB_CACHE_F16, HB_CACHE_F32 or HB_CACHE_Q8.
     */
    uint32_t cache_type;
    /**
     * The token that starts a text; -1 if there is none.
     */
    int32_t bos;
    /**
     * The token that ends a text; -1 if there is none.
     */
    int32_t eos;
    /**
     * Bytes of the weights in memory.
     */
    uint64_t packed_bytes;
} hb_model_info;

/**
 * One message of a conversation.
 */
typedef struct hb_message {
    /**
     * "system", "user" or "assistant".
     */
    const char *role;
    /**
     * What is said.
     */
    const char *content;
} hb_message;

/**
 * What is added to the logit of a token.
 */
typedef struct hb_logit_bias {
    /**
     * The token, below vocab_size.
     */
    uint32_t token;
    /**
     * A number, or negative infinity, which forbids the token.
     */
    float bias;
} hb_logit_bias;

/**
 * How to generate. Its defaults are not zeros, so start from hb_generation_options_init.
 */
typedef struct hb_generation_options {
    /**
     * sizeof(hb_generation_options).
     */
    size_t size;
    /**
     * Tokens to generate at most; 0 for none. Default 256.
     */
    uint64_t max_new_tokens;
    /**
     * Start of the random generator, where has_seed is 1.
     */
    uint64_t seed;
    /**
     * 1 to use seed; 0 for a fresh one, which the report tells. Default 0.
     */
    uint32_t has_seed;
    /**
     * Divides the logits, 0 to 100; 0 takes the most probable token every time. Default 0.7.
     */
    float temperature;
    /**
     * Draws from the k most probable tokens only; 0 for all. Default 40.
     */
    uint32_t top_k;
    /**
     * Draws from the smallest set with this probability in all, 0 to 1; 1 for all. Default 0.95.
     */
    float top_p;
    /**
     * Leaves out tokens below this share of the best one's probability, 0 to 1. Default 0.
     */
    float min_p;
    /**
     * Keeps the tokens closest to the expected surprise until this probability, 0 to 1. Default 1.
     */
    float typical_p;
    /**
     * Divides positive and multiplies negative logits of recent tokens, 0.01 to 100; 1 for none.
     * Default 1.1.
     */
    float repetition_penalty;
    /**
     * Recent tokens that the three penalties look at, prompt included unless an encoder reads it; 0
     * for none. Default 64.
     */
    uint32_t repeat_last_n;
    /**
     * Taken from the logit of each recent token once, -100 to 100. Default 0.
     */
    float presence_penalty;
    /**
     * Taken from the logit of each recent token as often as it occurs, -100 to 100. Default 0.
     */
    float frequency_penalty;
    /**
     * One of the HB_CONTEXT_ numbers.
     */
    uint32_t context_policy;
    /**
     * 1 to go on after the model's end token, which is then never drawn. Default 0.
     */
    uint32_t ignore_eos;
    /**
     * 1 to report each token's log-probability. Default 0.
     */
    uint32_t logprobs;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * n_stop texts, none of them empty, that end the generation and are left out of it. Default none.
     */
    const char *const *stop;
    /**
     * How many.
     */
    size_t n_stop;
    /**
     * n_logit_bias changes of logits. Default none.
     */
    const struct hb_logit_bias *logit_bias;
    /**
     * How many.
     */
    size_t n_logit_bias;
    /**
     * Hears (tokens of the prompt that are done, tokens of the prompt), or NULL.
     */
    hb_progress_callback progress;
    /**
     * Handed to progress.
     */
    void *progress_data;
    /**
     * Stops the generation, also in the middle of a prompt, or NULL.
     */
    struct hb_cancel *cancel;
} hb_generation_options;

/**
 * One new token, and the text that it made certain.
 */
typedef struct hb_piece {
    /**
     * sizeof(hb_piece), set by the caller where the caller owns the struct.
     */
    size_t size;
    /**
     * The text in UTF-8 with a NUL at its end; empty while a character or a possible stop text is
     * incomplete. Whole characters only. NULL after HB_BUFFER_TOO_SMALL.
     */
    const char *text;
    /**
     * Bytes of the text without its NUL. A model may write NUL characters, so this may be more than
     * strlen finds.
     */
    size_t text_bytes;
    /**
     * The token.
     */
    uint32_t token;
    /**
     * The token's natural-log probability under the model itself; NaN unless the options asked
     * for it.
     */
    float logprob;
} hb_piece;

/**
 * Takes a piece; 0 to go on, anything else to end the generation here. After the last piece there is
 * nothing to end: the report then says why it was the last.
 *
 * The piece and its text belong to halfbyte and live until the callback returns. Runs on the thread
 * that called hb_generate. It may call any function of this header, but the session in use gives
 * HB_BUSY. It must return: no longjmp, no C++ exception out of it.
 */
typedef int (*hb_piece_callback)(const struct hb_piece *piece, void *user_data);

/**
 * What is known about a generation.
 */
typedef struct hb_generation_report {
    /**
     * sizeof(hb_generation_report), set by the caller.
     */
    size_t size;
    /**
     * One of the HB_FINISH_ numbers.
     */
    uint32_t finish_reason;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * Tokens of the prompt.
     */
    uint64_t prompt_tokens;
    /**
     * Tokens of the prompt whose keys and values the session still had.
     */
    uint64_t reused_tokens;
    /**
     * New tokens, the end token included.
     */
    uint64_t new_tokens;
    /**
     * The seed that makes the same text again.
     */
    uint64_t seed;
    /**
     * Seconds until the first token.
     */
    double prompt_seconds;
    /**
     * Seconds of all later tokens.
     */
    double decode_seconds;
} hb_generation_report;

/**
 * It worked.
 */
#define HB_OK 0

/**
 * The generation has ended and has no more pieces. Not a failure; how it ended says the report.
 */
#define HB_END 1

/**
 * A pointer that must not be NULL is NULL.
 */
#define HB_NULL_ARGUMENT 2

/**
 * The handle was freed, is of another kind, or never was one.
 */
#define HB_INVALID_HANDLE 3

/**
 * A text is not UTF-8.
 */
#define HB_INVALID_UTF8 4

/**
 * An option or a count is out of its range; the message names it and its range.
 */
#define HB_INVALID_ARGUMENT 5

/**
 * The result does not fit; nothing was written but the needed size.
 */
#define HB_BUFFER_TOO_SMALL 6

/**
 * The session or generation is in use by another call.
 */
#define HB_BUSY 7

/**
 * The model was opened in the process from which this one was forked. Threads do not survive a
 * fork: open the model in the child.
 */
#define HB_FORKED 8

/**
 * The work was stopped through its hb_cancel.
 */
#define HB_CANCELLED 9

/**
 * The tokens do not fit in the model's context.
 */
#define HB_CONTEXT_FULL 10

/**
 * There is no such file.
 */
#define HB_NOT_FOUND 11

/**
 * The operating system refused to read or write a file.
 */
#define HB_IO 12

/**
 * A file is damaged, does not follow its format, or holds numbers that no model has.
 */
#define HB_MALFORMED 13

/**
 * A file is of a format, encoding or architecture that this version cannot run.
 */
#define HB_UNSUPPORTED 14

/**
 * The model has no tokenizer or a broken one, or the text cannot be written with it.
 */
#define HB_TOKENIZER 15

/**
 * The chat template is missing, broken, or refuses these messages.
 */
#define HB_TEMPLATE 16

/**
 * Memory for weights, keys and values, or results could not be allocated, or a thread could not be
 * started.
 */
#define HB_OUT_OF_MEMORY 17

/**
 * A mistake in halfbyte itself. Please report it.
 */
#define HB_INTERNAL 18

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's version, such as "0.1.0". Any thread; the text lives forever.
 */
const char *hb_version(void);

/**
 * HB_ABI_VERSION of the library that is loaded. A program compares it with that of its header.
 * Any thread.
 */
uint32_t hb_abi_version(void);

/**
 * The message of the last call that failed on this thread; empty if none has. It says what is
 * wrong and what would be right, in one line of UTF-8.
 *
 * Calls that succeed leave it as it is. The text belongs to halfbyte and lives until the next call
 * that fails on this thread, or the thread's end. Inside the log callback it is the logged message.
 */
const char *hb_last_error(void);

/**
 * The name of a status, such as "HB_BUSY"; "?" for a number that this version does not know. Any
 * thread; the text lives forever.
 */
const char *hb_status_name(hb_status status);

/**
 * Sends messages to a function; NULL for nobody, as it is at first.
 *
 * Any thread; holds for the whole process. Calls on other threads that began before may still run
 * the old callback with the old user_data, which live until those have returned.
 */
hb_status hb_set_log(hb_log_callback callback, void *user_data);

/**
 * Makes a brake. The caller frees it with hb_cancel_free; *cancel is NULL after a failure.
 */
hb_status hb_cancel_new(struct hb_cancel **cancel);

/**
 * Stops every call that was given this brake, now and later, within milliseconds: those end with
 * HB_CANCELLED, and sessions stay usable. Never waits.
 */
hb_status hb_cancel_stop(struct hb_cancel *cancel);

/**
 * Frees a brake; calls that have it go on, and nobody stops them any more. NULL is nothing.
 */
hb_status hb_cancel_free(struct hb_cancel *cancel);

/**
 * Opens the GGUF file, the file of one of 2023's formats (ggml, ggmf, ggjt) or the Hugging Face
 * folder at path, or for NULL the small model inside the library.
 *
 * options may be NULL. The caller frees the model with hb_model_free; *model is NULL after a
 * failure. Takes as long as reading the file; other threads may use halfbyte meanwhile.
 *
 * Until the call returns nobody may write to the file or shorten it: the system may end a process
 * that reads what is gone (SIGBUS). Renaming another file over it is safe, at any time.
 *
 * HB_NOT_FOUND, HB_IO, HB_MALFORMED, HB_UNSUPPORTED, HB_CANCELLED. A tokenizer or chat template that
 * is missing or broken is told where it is needed: HB_TOKENIZER, HB_TEMPLATE.
 */
hb_status hb_model_open(const char *path,
                        const struct hb_model_options *options,
                        struct hb_model **model);

/**
 * Says what a model is. info->size is set by the caller; later versions may fill more fields.
 */
hb_status hb_model_get_info(struct hb_model *model, struct hb_model_info *info);

/**
 * Frees a model. Its weights go when the last session, generation and call that use it have ended;
 * those go on unharmed. NULL is nothing.
 */
hb_status hb_model_free(struct hb_model *model);

/**
 * The tokens of a text; flags is 0 or a sum of HB_ADD_BOS and HB_PARSE_SPECIAL.
 *
 * *n_tokens is how many there are, also for HB_BUFFER_TOO_SMALL. With tokens NULL and a capacity
 * of 0 nothing but that is asked. HB_TOKENIZER.
 */
hb_status hb_tokenize(struct hb_model *model,
                      const char *text,
                      uint32_t flags,
                      uint32_t *tokens,
                      size_t capacity,
                      size_t *n_tokens);

/**
 * The text of tokens: special ones, and those that the model does not have, are left out; broken
 * UTF-8 becomes U+FFFD.
 *
 * capacity counts the NUL at the end; *n_bytes does not, and is set also for HB_BUFFER_TOO_SMALL.
 * With text NULL and a capacity of 0 nothing but that is asked. HB_TOKENIZER.
 */
hb_status hb_detokenize(struct hb_model *model,
                        const uint32_t *tokens,
                        size_t n_tokens,
                        char *text,
                        size_t capacity,
                        size_t *n_bytes);

/**
 * The logits after each of n_tokens tokens: as many rows of vocab_size numbers, in one fresh pass.
 *
 * n_tokens is 1 to context_length, and each token is below vocab_size. *n_logits is n_tokens times
 * vocab_size, also for HB_BUFFER_TOO_SMALL, which is said before anything is computed. With logits
 * NULL and a capacity of 0 nothing but that is asked. cancel may be NULL. The bits do not depend on
 * the number of threads or the processor. HB_INVALID_ARGUMENT for a model with an encoder, which does
 * not predict its prompt, HB_CONTEXT_FULL, HB_CANCELLED.
 */
hb_status hb_logits(struct hb_model *model,
                    const uint32_t *tokens,
                    size_t n_tokens,
                    struct hb_cancel *cancel,
                    float *logits,
                    size_t capacity,
                    size_t *n_logits);

/**
 * The embedding of a text: the mean of the last hidden states, hidden_size numbers.
 *
 * *n is hidden_size, also for HB_BUFFER_TOO_SMALL, which is said before anything is computed. With
 * embedding NULL and a capacity of 0 nothing but that is asked. cancel may be NULL. HB_TOKENIZER,
 * HB_CONTEXT_FULL, HB_CANCELLED.
 */
hb_status hb_embed(struct hb_model *model,
                   const char *text,
                   struct hb_cancel *cancel,
                   float *embedding,
                   size_t capacity,
                   size_t *n);

/**
 * The prompt of messages, as hb_generation_start_chat makes it.
 *
 * chat_template is NULL for the model's own, the name of a built-in one, or a Jinja source.
 * add_generation_prompt is 1 to end where the assistant's answer begins, or 0. capacity counts the
 * NUL at the end; *n_bytes does not, and is set also for HB_BUFFER_TOO_SMALL. With text NULL and a
 * capacity of 0 nothing but that is asked. HB_TEMPLATE, also for text that needs more than a second
 * or 1 MiB.
 */
hb_status hb_apply_chat_template(struct hb_model *model,
                                 const char *chat_template,
                                 const struct hb_message *messages,
                                 size_t n_messages,
                                 uint32_t add_generation_prompt,
                                 char *text,
                                 size_t capacity,
                                 size_t *n_bytes);

/**
 * Makes an empty session. The caller frees it with hb_session_free; *session is NULL after a
 * failure. The model may be freed before it.
 */
hb_status hb_session_new(struct hb_model *model, struct hb_session **session);

/**
 * Makes a session of what hb_session_save wrote for the same model with the same adapters. The
 * caller frees it; *session is NULL after a failure.
 *
 * HB_NOT_FOUND, HB_IO; HB_UNSUPPORTED for a file that is no session, HB_MALFORMED for a damaged one,
 * HB_INVALID_ARGUMENT for another model's or other adapters', HB_CONTEXT_FULL for more than
 * context_length tokens.
 */
hb_status hb_session_load(struct hb_model *model,
                          const char *path,
                          struct hb_session **session);

/**
 * Writes a session to a file, which it replaces. HB_NOT_FOUND where its folder is missing, HB_IO.
 */
hb_status hb_session_save(struct hb_session *session, const char *path);

/**
 * The tokens that a session holds: the last prompt, and what was generated after it.
 *
 * *n_tokens is how many there are, also for HB_BUFFER_TOO_SMALL. With tokens NULL and a capacity
 * of 0 nothing but that is asked.
 */
hb_status hb_session_tokens(struct hb_session *session,
                            uint32_t *tokens,
                            size_t capacity,
                            size_t *n_tokens);

/**
 * Empties a session. It keeps its adapters.
 */
hb_status hb_session_reset(struct hb_session *session);

/**
 * Frees a session. A call or generation that has it goes on unharmed; then it goes. NULL is
 * nothing.
 */
hb_status hb_session_free(struct hb_session *session);

/**
 * Opens a LoRA adapter for model: a PEFT folder (adapter_config.json and
 * adapter_model.safetensors or .bin), a GGUF adapter, or a ggla file of 2023.
 *
 * The caller frees it with hb_adapter_free; *adapter is NULL after a failure. HB_INVALID_ARGUMENT
 * if it is more than LoRA (DoRA, trained biases, whole modules) or made for another architecture,
 * and for every model with an encoder; HB_MALFORMED if its matrices are of another size than the
 * model's.
 */
hb_status hb_adapter_open(struct hb_model *model, const char *path, struct hb_adapter **adapter);

/**
 * Frees an adapter. Models and sessions that use it go on unharmed. NULL is nothing.
 */
hb_status hb_adapter_free(struct hb_adapter *adapter);

/**
 * Lets a session read its tokens with n adapters, each times its scale, in place of those that
 * it had; none for n = 0. With scales NULL each counts once.
 *
 * Takes microseconds. The tokens stay; what was computed of them is computed anew when it is next
 * needed, unless nothing changes. Results are those of a session that had these adapters from the
 * start. HB_INVALID_ARGUMENT for an adapter of a model of another shape or a scale that is not
 * finite; the session is as before then.
 */
hb_status hb_session_set_adapters(struct hb_session *session,
                                  struct hb_adapter *const *adapters,
                                  const float *scales,
                                  size_t n);

/**
 * Makes a second model over the same weights that has n adapters, each times its scale, in
 * place of those that model has: everything that starts from it reads its tokens with them. With
 * scales NULL each counts once.
 *
 * Takes microseconds and no memory to speak of. The caller frees it with hb_model_free;
 * *adapted is NULL after a failure. Either model may be freed first. HB_INVALID_ARGUMENT for an
 * adapter of a model of another shape or a scale that is not finite.
 */
hb_status hb_model_with_adapters(struct hb_model *model,
                                 struct hb_adapter *const *adapters,
                                 const float *scales,
                                 size_t n,
                                 struct hb_model **adapted);

/**
 * Fills options with the defaults; size is sizeof(hb_generation_options) in the caller's program.
 */
hb_status hb_generation_options_init(struct hb_generation_options *options, size_t size);

/**
 * Generates from a prompt, and hands each piece to callback until it says stop.
 *
 * The prompt is the whole text: it replaces what the session held, but what both begin with is not
 * computed again. It is plain text, in which special tokens mean nothing. options and report may
 * be NULL; report is filled whenever the generation began, also after a failure. A callback that
 * says stop is no failure: HB_OK, and the report says HB_FINISH_CANCELLED. HB_TOKENIZER,
 * HB_CONTEXT_FULL, HB_CANCELLED.
 */
hb_status hb_generate(struct hb_session *session,
                      const char *prompt,
                      const struct hb_generation_options *options,
                      hb_piece_callback callback,
                      void *user_data,
                      struct hb_generation_report *report);

/**
 * Starts a generation from a prompt, as hb_generate; the pieces are pulled with
 * hb_generation_next. Nothing is computed yet. The caller frees the generation with
 * hb_generation_free; *generation is NULL after a failure. HB_TOKENIZER, HB_CONTEXT_FULL.
 */
hb_status hb_generation_start(struct hb_session *session,
                              const char *prompt,
                              const struct hb_generation_options *options,
                              struct hb_generation **generation);

/**
 * Starts a generation from the tokens of a whole text, each below vocab_size, or for n_tokens 0 goes
 * on from those that the session holds, of which there must be one. Else as hb_generation_start.
 */
hb_status hb_generation_start_tokens(struct hb_session *session,
                                     const uint32_t *tokens,
                                     size_t n_tokens,
                                     const struct hb_generation_options *options,
                                     struct hb_generation **generation);

/**
 * Starts the answer to the messages of a conversation, oldest first: the whole of it each time.
 *
 * What the session still has of it is not computed again. chat_template as for
 * hb_apply_chat_template; the template's stop texts are added to the options'. Else as
 * hb_generation_start; HB_TEMPLATE besides.
 */
hb_status hb_generation_start_chat(struct hb_session *session,
                                   const char *chat_template,
                                   const struct hb_message *messages,
                                   size_t n_messages,
                                   const struct hb_generation_options *options,
                                   struct hb_generation **generation);

/**
 * Computes the next piece and writes its text, with a NUL at the end, into the caller's buffer.
 *
 * HB_OK with a piece, HB_END when there are no more, HB_CANCELLED when its hb_cancel stopped it. A
 * failure ends it: the call that meets it returns it, later ones HB_END, and the report says
 * HB_FINISH_FAILED.
 *
 * 256 bytes nearly always suffice; where they do not, HB_BUFFER_TOO_SMALL, piece->text_bytes is
 * what the text needs without its NUL, and the next call gives the same piece again. piece may be
 * NULL; else the caller sets its size, and its text points into the caller's buffer.
 */
hb_status hb_generation_next(struct hb_generation *generation,
                             char *text,
                             size_t capacity,
                             struct hb_piece *piece);

/**
 * Says what is known about a generation so far; HB_BUSY while another call computes.
 */
hb_status hb_generation_get_report(struct hb_generation *generation,
                                   struct hb_generation_report *report);

/**
 * Frees a generation, at any time; the session is free again, with the tokens so far. A call that
 * computes meanwhile goes on to the end of its piece, and only then is the session free. NULL is
 * nothing.
 */
hb_status hb_generation_free(struct hb_generation *generation);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HALFBYTE_H */
