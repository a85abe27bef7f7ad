// What libFuzzer does where there is none, without its knowledge of branches: random inputs, each made from a former
// one, the same ones in every run.
//
//     fuzz_interface SECONDS        fuzz_interface FILE ...: these inputs only
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<uint8_t>;

Bytes current;

void save_current() {
    std::ofstream("crash-input", std::ios::binary).write(reinterpret_cast<const char*>(current.data()), long(current.size()));
    std::fprintf(stderr, "the input is in ./crash-input\n");
}

void run(const Bytes& input) {
    current = input;
    LLVMFuzzerTestOneInput(current.data(), current.size());
}

Bytes mutated(const Bytes& from, std::mt19937& random) {
    Bytes bytes = from;
    if (bytes.empty() || random() % 8 == 0) bytes.resize(random() % 256);
    for (unsigned i = random() % 16; i > 0 && !bytes.empty(); --i) bytes[random() % bytes.size()] = uint8_t(random());
    if (random() % 64 == 0)
        for (uint8_t& byte : bytes) byte = uint8_t(random());
    return bytes;
}

void run_for(double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    std::mt19937 random(0);
    std::vector<Bytes> former(64);
    long count = 0;
    for (; passed() < seconds; ++count) {
        Bytes& one = former[random() % former.size()];
        one = mutated(one, random);
        run(one);
    }
    std::printf("%ld inputs in %.0f seconds\n", count, passed());
}

}  // namespace

int main(int count, char** arguments) {
    __sanitizer_set_death_callback(save_current);
    const bool timed = count == 2 && std::string(arguments[1]).find_first_not_of("0123456789") == std::string::npos;
    if (timed) {
        run_for(std::atof(arguments[1]));
        return 0;
    }
    for (int i = 1; i < count; ++i) {
        std::ifstream file(arguments[i], std::ios::binary);
        run(Bytes(std::istreambuf_iterator<char>(file), {}));
    }
    return 0;
}
