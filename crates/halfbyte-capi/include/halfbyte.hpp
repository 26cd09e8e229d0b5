/*
 * halfbyte for C++17: handles that free themselves, exceptions, and pieces in a range-for.
 *
 *     halfbyte::Model model("groovy.gguf");             // or halfbyte::Model() for the one inside
 *     halfbyte::Session session(model);
 *     for (const halfbyte::Piece &piece : session.generate("Once upon a time")) {
 *         std::cout << piece.text << std::flush;
 *     }
 *
 * A thin layer over halfbyte.h, where the rules stand. Every failure is a halfbyte::Error. Objects
 * can be moved and not copied; a session may outlive its model, and a generation its session.
 * Strings that the library is given must not hold NUL characters, where its texts end.
 */

#ifndef HALFBYTE_HPP
#define HALFBYTE_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "halfbyte.h"

namespace halfbyte {

/// A call that failed: hb_last_error() as what(), and its status.
class Error : public std::runtime_error {
  public:
    explicit Error(hb_status status) : Error(status, hb_last_error()) {}
    Error(hb_status status, const char *message) : std::runtime_error(message), status_(status) {}

    hb_status status() const noexcept { return status_; }

  private:
    hb_status status_;
};

/// Throws an Error unless status is HB_OK.
inline void check(hb_status status) {
    if (status != HB_OK) {
        throw Error(status);
    }
}

namespace detail {

/// Frees a handle; what could go wrong is that somebody else freed it.
template <typename T, hb_status (*Free)(T *)> struct Deleter {
    void operator()(T *handle) const noexcept { static_cast<void>(Free(handle)); }
};

template <typename T, hb_status (*Free)(T *)>
using Handle = std::unique_ptr<T, Deleter<T, Free>>;

/// The handle that make(&handle) makes.
template <typename T, typename Make> T *made(Make make) {
    T *handle = nullptr;
    check(make(&handle));
    return handle;
}

/// A text for C, which would take a NUL character for its end.
inline const char *c_text(const std::string &text) {
    if (text.find('\0') != std::string::npos) {
        throw Error(HB_INVALID_ARGUMENT, "invalid text: it holds a NUL character");
    }
    return text.c_str();
}

/// The elements that ask(place, capacity, count) writes; first it is only asked how many.
template <typename T, typename Ask> std::vector<T> elements(Ask ask) {
    std::size_t n = 0;
    check(ask(static_cast<T *>(nullptr), std::size_t(0), &n));
    std::vector<T> found(n);
    if (n > 0) {
        check(ask(found.data(), found.size(), &n));
        found.resize(n);
    }
    return found;
}

template <typename Ask> std::string text(Ask ask) {
    std::size_t n = 0;
    check(ask(static_cast<char *>(nullptr), std::size_t(0), &n));
    std::string found(n + 1, '\0');
    check(ask(found.data(), n + 1, &n));
    found.resize(n);
    return found;
}

} // namespace detail

/// A brake that stops calls from another thread; they throw an Error with HB_CANCELLED.
class Cancel {
  public:
    Cancel() : handle_(detail::made<hb_cancel>(hb_cancel_new)) {}

    void stop() const { check(hb_cancel_stop(handle_.get())); }
    hb_cancel *get() const noexcept { return handle_.get(); }

  private:
    detail::Handle<hb_cancel, hb_cancel_free> handle_;
};

/// hb_model_options with their defaults.
struct ModelOptions : hb_model_options {
    ModelOptions() : hb_model_options() { size = sizeof(hb_model_options); }
};

/// hb_generation_options with their defaults; stop texts are strings here.
struct Options : hb_generation_options {
    Options() : hb_generation_options() {
        check(hb_generation_options_init(this, sizeof(hb_generation_options)));
    }
    std::vector<std::string> stop_texts;
};

/// One message of a conversation: role is "system", "user" or "assistant".
struct Message {
    std::string role;
    std::string content;
};

/// One new token and the text that it made certain.
struct Piece {
    std::string text;
    std::uint32_t token = 0;
    /// NaN unless the options asked for it.
    float logprob = 0;

    /// Takes over what C has.
    void assign(const hb_piece &piece) {
        text.assign(piece.text, piece.text_bytes);
        token = piece.token;
        logprob = piece.logprob;
    }
};

namespace detail {

/// Options as C has them; lives as long as the call.
class COptions {
  public:
    explicit COptions(const Options &options) : options_(options) {
        for (const std::string &text : options.stop_texts) {
            stop_.push_back(c_text(text));
        }
        if (!stop_.empty()) {
            options_.stop = stop_.data();
            options_.n_stop = stop_.size();
        }
    }

    const hb_generation_options *get() const noexcept { return &options_; }

  private:
    hb_generation_options options_;
    std::vector<const char *> stop_;
};

inline std::vector<hb_message> messages(const std::vector<Message> &given) {
    std::vector<hb_message> found;
    for (const Message &message : given) {
        found.push_back({c_text(message.role), c_text(message.content)});
    }
    return found;
}

} // namespace detail

struct Scaled;

/// A loaded model. Immutable: threads and sessions share it.
class Model {
  public:
    /// The small model inside the library.
    explicit Model(const ModelOptions &options = {}) : Model(nullptr, options) {}
    explicit Model(std::nullptr_t, const ModelOptions &options = {})
        : handle_(open(nullptr, options)) {}

    /// A GGUF file, a file of one of 2023's formats or a Hugging Face folder.
    explicit Model(const std::string &path, const ModelOptions &options = {})
        : handle_(open(detail::c_text(path), options)) {}

    hb_model_info info() const {
        hb_model_info info = {};
        info.size = sizeof(info);
        check(hb_model_get_info(get(), &info));
        return info;
    }

    std::vector<std::uint32_t> tokenize(const std::string &text, std::uint32_t flags = 0) const {
        return detail::elements<std::uint32_t>([&](auto *place, std::size_t room, std::size_t *n) {
            return hb_tokenize(get(), detail::c_text(text), flags, place, room, n);
        });
    }

    std::string detokenize(const std::vector<std::uint32_t> &tokens) const {
        return detail::text([&](char *place, std::size_t room, std::size_t *n) {
            return hb_detokenize(get(), tokens.data(), tokens.size(), place, room, n);
        });
    }

    /// The logits after each token, row after row.
    std::vector<float> logits(const std::vector<std::uint32_t> &tokens,
                              const Cancel *cancel = nullptr) const {
        hb_cancel *brake = cancel != nullptr ? cancel->get() : nullptr;
        return detail::elements<float>([&](float *place, std::size_t room, std::size_t *n) {
            return hb_logits(get(), tokens.data(), tokens.size(), brake, place, room, n);
        });
    }

    std::vector<float> embed(const std::string &text, const Cancel *cancel = nullptr) const {
        hb_cancel *brake = cancel != nullptr ? cancel->get() : nullptr;
        return detail::elements<float>([&](float *place, std::size_t room, std::size_t *n) {
            return hb_embed(get(), detail::c_text(text), brake, place, room, n);
        });
    }

    /// The prompt of messages; chat_template as for hb_apply_chat_template.
    std::string apply_chat_template(const std::vector<Message> &messages,
                                    bool add_generation_prompt = true,
                                    const char *chat_template = nullptr) const {
        const std::vector<hb_message> given = detail::messages(messages);
        const std::uint32_t flag = add_generation_prompt ? 1 : 0;
        return detail::text([&](char *place, std::size_t room, std::size_t *n) {
            return hb_apply_chat_template(get(), chat_template, given.data(), given.size(), flag,
                                          place, room, n);
        });
    }

    /// A model over the same weights that reads everything with adapters.
    Model with_adapters(const std::vector<Scaled> &adapters) const;

    hb_model *get() const noexcept { return handle_.get(); }

  private:
    explicit Model(hb_model *model) : handle_(model) {}

    static hb_model *open(const char *path, const ModelOptions &options) {
        return detail::made<hb_model>(
            [&](hb_model **model) { return hb_model_open(path, &options, model); });
    }

    detail::Handle<hb_model, hb_model_free> handle_;
};

/// A LoRA adapter for models of one shape: a PEFT folder, a GGUF adapter or a ggla file.
class Adapter {
  public:
    Adapter(const Model &model, const std::string &path)
        : handle_(detail::made<hb_adapter>([&](hb_adapter **adapter) {
              return hb_adapter_open(model.get(), detail::c_text(path), adapter);
          })) {}

    hb_adapter *get() const noexcept { return handle_.get(); }

  private:
    detail::Handle<hb_adapter, hb_adapter_free> handle_;
};

/// An adapter, and what it is multiplied by.
struct Scaled {
    const Adapter &adapter;
    float scale = 1;
};

namespace detail {

/// Adapters as C takes them.
struct Adapters {
    explicit Adapters(const std::vector<Scaled> &given) {
        for (const Scaled &one : given) {
            handles.push_back(one.adapter.get());
            scales.push_back(one.scale);
        }
    }

    std::vector<hb_adapter *> handles;
    std::vector<float> scales;
};

} // namespace detail

inline Model Model::with_adapters(const std::vector<Scaled> &adapters) const {
    const detail::Adapters given(adapters);
    return Model(detail::made<hb_model>([&](hb_model **adapted) {
        return hb_model_with_adapters(get(), given.handles.data(), given.scales.data(),
                                      given.handles.size(), adapted);
    }));
}

/// A running generation; its pieces come in a range-for, once.
class Generation {
  public:
    /// Takes a handle over.
    explicit Generation(hb_generation *generation) : handle_(generation), text_(256) {}

    /// Computes the next piece; false at the end.
    bool next(Piece &piece) {
        hb_piece found = {};
        found.size = sizeof(found);
        hb_status status = hb_generation_next(get(), text_.data(), text_.size(), &found);
        if (status == HB_BUFFER_TOO_SMALL) {
            text_.resize(found.text_bytes + 1);
            status = hb_generation_next(get(), text_.data(), text_.size(), &found);
        }
        if (status == HB_END) {
            return false;
        }
        check(status);
        piece.assign(found);
        return true;
    }

    hb_generation_report report() const {
        hb_generation_report report = {};
        report.size = sizeof(report);
        check(hb_generation_get_report(get(), &report));
        return report;
    }

    /// Where a range-for is.
    class Iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Piece;
        using difference_type = std::ptrdiff_t;
        using pointer = const Piece *;
        using reference = const Piece &;

        Iterator() = default;
        explicit Iterator(Generation *generation) : generation_(generation) { ++*this; }

        reference operator*() const noexcept { return piece_; }
        pointer operator->() const noexcept { return &piece_; }

        Iterator &operator++() {
            if (!generation_->next(piece_)) {
                generation_ = nullptr;
            }
            return *this;
        }
        /// A copy of where it was, as input iterators have it.
        Iterator operator++(int) {
            Iterator before = *this;
            ++*this;
            return before;
        }

        bool operator==(const Iterator &other) const noexcept {
            return generation_ == other.generation_;
        }
        bool operator!=(const Iterator &other) const noexcept { return !(*this == other); }

      private:
        Generation *generation_ = nullptr;
        Piece piece_;
    };

    Iterator begin() { return Iterator(this); }
    Iterator end() { return Iterator(); }

    /// All text that is left.
    std::string rest() {
        std::string text;
        for (const Piece &piece : *this) {
            text += piece.text;
        }
        return text;
    }

    hb_generation *get() const noexcept { return handle_.get(); }

  private:
    detail::Handle<hb_generation, hb_generation_free> handle_;
    std::vector<char> text_;
};

/// One text, kept between calls.
class Session {
  public:
    explicit Session(const Model &model)
        : handle_(detail::made<hb_session>(
              [&](hb_session **session) { return hb_session_new(model.get(), session); })) {}

    /// What save() wrote for the same model with the same adapters.
    Session(const Model &model, const std::string &path)
        : handle_(detail::made<hb_session>([&](hb_session **session) {
              return hb_session_load(model.get(), detail::c_text(path), session);
          })) {}

    void save(const std::string &path) const {
        check(hb_session_save(get(), detail::c_text(path)));
    }
    void reset() const { check(hb_session_reset(get())); }

    /// Reads tokens with these adapters from here on.
    void set_adapters(const std::vector<Scaled> &adapters) const {
        const detail::Adapters given(adapters);
        check(hb_session_set_adapters(get(), given.handles.data(), given.scales.data(),
                                      given.handles.size()));
    }

    std::vector<std::uint32_t> tokens() const {
        return detail::elements<std::uint32_t>([&](auto *place, std::size_t room, std::size_t *n) {
            return hb_session_tokens(get(), place, room, n);
        });
    }

    Generation generate(const std::string &prompt, const Options &options = {}) const {
        const detail::COptions given(options);
        return Generation(detail::made<hb_generation>([&](hb_generation **generation) {
            return hb_generation_start(get(), detail::c_text(prompt), given.get(), generation);
        }));
    }

    /// From tokens; on from what the session holds if there are none.
    Generation generate_tokens(const std::vector<std::uint32_t> &tokens,
                               const Options &options = {}) const {
        const detail::COptions given(options);
        return Generation(detail::made<hb_generation>([&](hb_generation **generation) {
            return hb_generation_start_tokens(get(), tokens.data(), tokens.size(), given.get(),
                                              generation);
        }));
    }

    /// The answer to messages; chat_template as for hb_apply_chat_template.
    Generation answer(const std::vector<Message> &messages, const Options &options = {},
                      const char *chat_template = nullptr) const {
        const detail::COptions given(options);
        const std::vector<hb_message> all = detail::messages(messages);
        return Generation(detail::made<hb_generation>([&](hb_generation **generation) {
            return hb_generation_start_chat(get(), chat_template, all.data(), all.size(),
                                            given.get(), generation);
        }));
    }

    /// Hands each piece to callback until that is false. What it throws comes out of here.
    hb_generation_report generate(const std::string &prompt, const Options &options,
                                  const std::function<bool(const Piece &)> &callback) const {
        const detail::COptions given(options);
        hb_generation_report report = {};
        report.size = sizeof(report);
        Told told = {&callback, nullptr};
        const hb_status status =
            hb_generate(get(), detail::c_text(prompt), given.get(), &Session::tell, &told, &report);
        if (told.thrown) {
            std::rethrow_exception(told.thrown);
        }
        check(status);
        return report;
    }

    hb_session *get() const noexcept { return handle_.get(); }

  private:
    struct Told {
        const std::function<bool(const Piece &)> *callback;
        std::exception_ptr thrown;
    };

    /// No exception may leave a callback, so it is carried around the library.
    static int tell(const hb_piece *piece, void *user_data) noexcept {
        Told *told = static_cast<Told *>(user_data);
        try {
            Piece given;
            given.assign(*piece);
            return (*told->callback)(given) ? 0 : 1;
        } catch (...) {
            told->thrown = std::current_exception();
            return 1;
        }
    }

    detail::Handle<hb_session, hb_session_free> handle_;
};

} // namespace halfbyte

#endif // HALFBYTE_HPP
