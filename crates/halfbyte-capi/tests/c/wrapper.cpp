// All of halfbyte.hpp: what it gives is what the functions below it give, and it throws what they say.

#include <cmath>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <utility>

#include <halfbyte.hpp>

#include "expect.h"

using namespace halfbyte;

static const char PROMPT[] = "Once upon a time";

static Options options() {
    Options found;
    found.max_new_tokens = 8;
    found.has_seed = 1;
    found.seed = 1;
    return found;
}

// The status of the Error that call throws; HB_OK if it throws none.
template <typename Call> static hb_status thrown(Call call) {
    try {
        call();
    } catch (const Error &error) {
        return error.what()[0] != '\0' ? error.status() : HB_INTERNAL;
    }
    return HB_OK;
}

static void models() {
    const Model model, same(nullptr);
    HOLDS(model.info().vocab_size > 0 && same.info().vocab_size == model.info().vocab_size);
    const std::vector<std::uint32_t> tokens = model.tokenize(PROMPT);
    HOLDS(!tokens.empty() && model.detokenize(tokens) == PROMPT);
    HOLDS(model.tokenize("").empty() && model.detokenize({}).empty());
    HOLDS(model.tokenize(PROMPT, HB_ADD_BOS).size() >= tokens.size());
    HOLDS(model.logits(tokens).size() == tokens.size() * model.info().vocab_size);
    HOLDS(model.embed(PROMPT).size() == model.info().hidden_size);
    const std::vector<Message> messages = {{"user", "Hi"}};
    HOLDS(model.apply_chat_template(messages).find("Hi") != std::string::npos);
    HOLDS(model.apply_chat_template(messages, false, "{{ messages[0].role }}") == "user");
    const Cancel cancel;
    cancel.stop();
    EXPECT(HB_CANCELLED, thrown([&] { model.logits(tokens, &cancel); }));
    EXPECT(HB_CANCELLED, thrown([&] { model.embed(PROMPT, &cancel); }));
    EXPECT(HB_NOT_FOUND, thrown([] { Model("nonexistent.gguf"); }));
    ModelOptions opening;
    opening.cache_type = 3;
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { Model other(opening); }));
}

static void generations(const Model &model) {
    const Session session(model);
    const std::string text = session.generate(PROMPT, options()).rest();
    HOLDS(!text.empty());
    // Pulled one by one, by hand and by an algorithm.
    Generation generation = session.generate(PROMPT, options());
    std::string pulled;
    for (Piece piece; generation.next(piece);) {
        pulled += piece.text;
        HOLDS(std::isnan(piece.logprob));
    }
    HOLDS(pulled == text && generation.report().new_tokens == 8);
    generation = session.generate(PROMPT, options());
    Generation::Iterator it = generation.begin();
    const Piece first = *it++;
    HOLDS(!it->text.empty() && first.token != it->token);
    HOLDS(std::distance(it, generation.end()) == 7);
    // From tokens, also a list of numbers, and from what the session holds.
    HOLDS(session.generate_tokens(model.tokenize(PROMPT, HB_ADD_BOS), options()).rest() == text);
    const std::size_t n = session.tokens().size();
    HOLDS(session.generate_tokens({1u, 2u}, options()).report().prompt_tokens == 2);
    HOLDS(session.generate(PROMPT, options()).rest() == text && session.tokens().size() == n);
    HOLDS(session.generate_tokens({}, options()).report().prompt_tokens == n);
    // Stop texts are left out.
    Options stopping = options();
    stopping.stop_texts = {text.substr(text.size() / 2)};
    generation = session.generate(PROMPT, stopping);
    HOLDS(generation.rest() == text.substr(0, text.size() / 2));
    HOLDS(generation.report().finish_reason == HB_FINISH_STOP_TEXT);
    generation = session.answer({{"user", "Hi"}}, options());
    HOLDS(!generation.rest().empty());
    EXPECT(HB_BUSY, thrown([&] {
               const Generation held = session.generate(PROMPT);
               static_cast<void>(session.generate(PROMPT));
           }));
}

static void callbacks(const Model &model) {
    const Session session(model);
    const std::string text = session.generate(PROMPT, options()).rest();
    std::string told;
    hb_generation_report report = session.generate(PROMPT, options(), [&](const Piece &piece) {
        told += piece.text;
        return true;
    });
    HOLDS(told == text && report.finish_reason == HB_FINISH_LENGTH);
    report = session.generate(PROMPT, options(), [](const Piece &) { return false; });
    HOLDS(report.new_tokens == 1 && report.finish_reason == HB_FINISH_CANCELLED);
    bool came_out = false;
    try {
        session.generate(PROMPT, options(),
                         [](const Piece &) -> bool { throw std::runtime_error("as planned"); });
    } catch (const std::runtime_error &error) {
        came_out = std::string(error.what()) == "as planned";
    }
    HOLDS(came_out && session.generate(PROMPT, options()).rest() == text);
}

static void sessions(const Model &model) {
    Session session(model);
    session.generate(PROMPT, options()).rest();
    session.save("wrapper.session");
    const Session loaded(model, "wrapper.session");
    EXPECT(HB_OK, std::remove("wrapper.session"));
    HOLDS(loaded.tokens() == session.tokens() && !loaded.tokens().empty());
    HOLDS(loaded.generate_tokens({}, options()).rest() == session.generate_tokens({}, options()).rest());
    // Moved, also onto itself after that.
    Session moved(std::move(session));
    HOLDS(session.get() == nullptr && !moved.tokens().empty());
    session = std::move(moved);
    session.reset();
    HOLDS(session.tokens().empty());
    EXPECT(HB_NULL_ARGUMENT, thrown([&] { moved.reset(); }));
    EXPECT(HB_NOT_FOUND, thrown([&] { Session(model, "nonexistent.session"); }));
}

// A NUL character would end the text for C; nothing after it may be lost in silence.
static void texts_with_nul(const Model &model) {
    const Session session(model);
    const std::string wrong("a\0b", 3);
    Options stopping;
    stopping.stop_texts = {wrong};
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { Model other(wrong); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { model.tokenize(wrong); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { model.embed(wrong); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { model.apply_chat_template({{"user", wrong}}); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { Session(model, wrong); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { session.save(wrong); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { session.generate(wrong); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { session.generate("a", stopping); }));
    EXPECT(HB_INVALID_ARGUMENT, thrown([&] { session.answer({{wrong, "Hi"}}); }));
    EXPECT(HB_INVALID_ARGUMENT,
           thrown([&] { session.generate(wrong, {}, [](const Piece &) { return true; }); }));
}

int main() try {
    const Model model;
    models();
    generations(model);
    callbacks(model);
    sessions(model);
    texts_with_nul(model);
    return summary("wrapper");
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
