#include "error.h"

#include <cstdarg>
#include <cstdio>

namespace simplematch::abi {
namespace {

thread_local char message[512] = "";

}  // namespace

const char* last_message() noexcept { return message; }

void set_message(const char* text) noexcept { std::snprintf(message, sizeof message, "%s", text); }

void refuse(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    throw Failure{SIMPLEMATCH_INVALID_ARGUMENT};
}

void unsupported(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    throw Failure{SIMPLEMATCH_UNSUPPORTED};
}

}  // namespace simplematch::abi
