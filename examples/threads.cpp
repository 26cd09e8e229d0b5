// Eight threads share one model, each with a session of its own; then a ninth is stopped.
//
//     c++ -std=c++17 -pthread threads.cpp $(pkg-config --cflags --libs halfbyte) -o threads
//     ./threads [MODEL.gguf]

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <halfbyte.hpp>

static std::string story(const halfbyte::Model &model, std::uint64_t seed) {
    halfbyte::Options options;
    options.max_new_tokens = 16;
    options.has_seed = 1;
    options.seed = seed;
    std::string text = "The little";
    for (const halfbyte::Piece &piece : halfbyte::Session(model).generate("The little", options)) {
        text += piece.text;
    }
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

// A generation without an end, stopped from this thread: whether it was.
static bool stops(const halfbyte::Model &model) {
    const halfbyte::Cancel cancel;
    std::atomic<bool> began(false);
    bool stopped = false;
    std::thread endless([&] {
        halfbyte::Options options;
        options.max_new_tokens = 1000000000;
        options.ignore_eos = 1;
        options.context_policy = HB_CONTEXT_SHIFT;
        options.cancel = cancel.get();
        try {
            for (const halfbyte::Piece &piece : halfbyte::Session(model).generate("A", options)) {
                began = began || piece.token < 1000000;
            }
        } catch (const halfbyte::Error &error) {
            stopped = error.status() == HB_CANCELLED;
        }
        began = true; // also where nothing was generated: nobody waits for ever
    });
    while (!began) {
        std::this_thread::yield();
    }
    cancel.stop();
    endless.join();
    return stopped;
}

int main(int argc, char **argv) try {
    const halfbyte::Model model = argc > 1 ? halfbyte::Model(std::string(argv[1])) : halfbyte::Model();
    std::vector<std::string> stories(8);
    std::vector<std::thread> threads;
    for (std::size_t seed = 0; seed < stories.size(); seed++) {
        threads.emplace_back([&, seed] {
            try {
                stories[seed] = story(model, seed);
            } catch (const halfbyte::Error &error) {
                stories[seed] = error.what();
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    for (std::size_t seed = 0; seed < stories.size(); seed++) {
        std::printf("%zu: %s\n", seed, stories[seed].c_str());
    }
    return stops(model) ? 0 : 1;
} catch (const halfbyte::Error &error) {
    std::fprintf(stderr, "%s: %s\n", hb_status_name(error.status()), error.what());
    return 1;
}
