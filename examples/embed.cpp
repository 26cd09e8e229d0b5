// How near texts are to each other: the cosines of their embeddings.
//
//     c++ -std=c++17 embed.cpp $(pkg-config --cflags --libs halfbyte) -o embed
//     ./embed [MODEL.gguf]

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <halfbyte.hpp>

static double dot(const std::vector<float> &a, const std::vector<float> &b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); i++) {
        sum += double(a[i]) * double(b[i]);
    }
    return sum;
}

int main(int argc, char **argv) try {
    const halfbyte::Model model = argc > 1 ? halfbyte::Model(std::string(argv[1])) : halfbyte::Model();
    const std::vector<std::string> texts = {
        "The dog ran in the park.", "A puppy played outside.", "She ate a red apple."};
    std::vector<std::vector<float>> vectors;
    for (const std::string &text : texts) {
        vectors.push_back(model.embed(text));
    }
    for (std::size_t i = 0; i < texts.size(); i++) {
        for (std::size_t j = i + 1; j < texts.size(); j++) {
            const std::vector<float> &a = vectors[i], &b = vectors[j];
            const double cosine = dot(a, b) / std::sqrt(dot(a, a) * dot(b, b));
            std::printf("%.6f  %s / %s\n", cosine, texts[i].c_str(), texts[j].c_str());
        }
    }
    return 0;
} catch (const halfbyte::Error &error) {
    std::fprintf(stderr, "%s: %s\n", hb_status_name(error.status()), error.what());
    return 1;
}
