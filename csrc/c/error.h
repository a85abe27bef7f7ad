// How a failure leaves the library: thrown as Failure inside, a status and a sentence outside.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>

#include "common/records.h"

namespace simplematch::abi {

struct Failure {
    simplematch_status status;
};

// The sentence of the calling thread's last failure, cut to 512 bytes. Allocates nothing.
const char* last_message() noexcept;
void set_message(const char* text) noexcept;

// Sets the message and throws.
[[noreturn]] __attribute__((format(printf, 1, 2))) void refuse(const char* format, ...);
[[noreturn]] __attribute__((format(printf, 1, 2))) void unsupported(const char* format, ...);

// Runs the body of an exported function: no exception passes.
template <class F>
simplematch_status guard(F&& body) noexcept {
    try {
        body();
        return SIMPLEMATCH_OK;
    } catch (const Failure& failure) {
        return failure.status;
    } catch (const std::bad_alloc&) {
        set_message("not enough memory for the scratch space of this call; a smaller score_budget needs less");
        return SIMPLEMATCH_OUT_OF_MEMORY;
    } catch (const std::length_error&) {
        set_message("the scratch space of this call is larger than any memory");
        return SIMPLEMATCH_OUT_OF_MEMORY;
    } catch (const std::runtime_error& error) {
        set_message(error.what());
        return SIMPLEMATCH_DEVICE_ERROR;
    } catch (const std::exception& error) {
        set_message(error.what());
        return SIMPLEMATCH_INTERNAL_ERROR;
    } catch (...) {
        set_message("an unknown error inside the library");
        return SIMPLEMATCH_INTERNAL_ERROR;
    }
}

}  // namespace simplematch::abi
