#include "memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "storage.h"

namespace simplematch::cpu {

namespace {

// From the first to the last element; 0 if there is none, or if the first has not the lowest address.
int64_t span(const View& output) {
    if (output.data == nullptr) return 0;
    int64_t items = 1;
    for (int i = 0; i < 4; ++i) {
        if (output.size[i] == 0 || (output.stride[i] < 0 && output.size[i] > 1)) return 0;
        items += (output.size[i] - 1) * output.stride[i];
    }
    return items * item_size(output.dtype);
}

}  // namespace

bool is_large(const View& output) { return span(output) > (16 << 20); }

void prepare_memory(void* data, int64_t count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t page = 4096;
    const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + uintptr_t(count)) / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a hint: failing changes nothing
#else
    (void)data;
    (void)count;
#endif
}

void prepare_output(const View& output) {
    const int64_t bytes = span(output);
    if (bytes >= 4 << 20) prepare_memory(output.data, bytes);
}

}  // namespace simplematch::cpu
