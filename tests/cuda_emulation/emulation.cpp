// Threads of a block as fibers, one stack each, that hand over to the next in line.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

#if defined(__x86_64__)
// Saves what a call must keep on the stack and its top in *from, then goes on where `to` was saved.
asm(R"(
.text
.globl emulation_switch
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulation_switch, .-emulation_switch
)");
extern "C" void emulation_switch(void** from, void* to);
#else
#include <ucontext.h>
#endif

namespace emulation {
namespace {

constexpr size_t kStack = 256 * 1024;
constexpr unsigned kMostThreads = 1024, kWarp = 32;

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Fiber {
    std::unique_ptr<char[]> stack{new char[kStack]};
#if defined(__x86_64__)
    void* top = nullptr;
#else
    ucontext_t context;
#endif
    const void* bottom = stack.get();
    size_t size = kStack;
    void* sanitizer = nullptr;
    bool returned = false;
    unsigned exchanges = 0, votes = 0;
};

struct Machine {
    std::vector<Fiber> fibers;
    Fiber host;  // the caller of `launch`
    unsigned threads = 0, current = 0, returned = 0, waiting_since_progress = 0;
    Barrier block, warps[kMostThreads / kWarp];
    uint64_t slots[2][kMostThreads], votes[2][kMostThreads];
    void (*run)(void*, void*) = nullptr;
    void *kernel = nullptr, *argument = nullptr;
};

Machine machine;
std::mutex one_launch;

[[noreturn]] void fail(const char* message) {
    std::fprintf(stderr, "emulated GPU: %s (block %u, thread %u)\n", message, blockIdx.x, threadIdx.x);
    std::abort();
}

void switch_to(Fiber& from, Fiber& to, bool for_good = false) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.sanitizer, to.bottom, to.size);
#endif
#if defined(__x86_64__)
    emulation_switch(&from.top, to.top);
#else
    swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
#endif
    (void)for_good;
}

// To the next thread that has not returned; the caller if there is none.
void hand_over(bool for_good = false) {
    Fiber& from = machine.fibers[machine.current];
    if (machine.returned == machine.threads) return switch_to(from, machine.host, for_good);
    do {
        machine.current = machine.current + 1 < machine.threads ? machine.current + 1 : 0;
    } while (machine.fibers[machine.current].returned);
    threadIdx.x = machine.current;
    Fiber& to = machine.fibers[machine.current];
    if (&to != &from) switch_to(from, to, for_good);
}

void body() {
#if defined(__SANITIZE_ADDRESS__)
    const bool from_host = machine.current == 0;
    __sanitizer_finish_switch_fiber(nullptr, from_host ? &machine.host.bottom : nullptr,
                                    from_host ? &machine.host.size : nullptr);
#endif
    machine.run(machine.kernel, machine.argument);
    machine.fibers[machine.current].returned = true;
    ++machine.returned;
    machine.waiting_since_progress = 0;
    if (machine.block.arrived > 0 && machine.block.arrived + machine.returned == machine.threads) {
        machine.block.arrived = 0;
        ++machine.block.generation;
    }
    hand_over(true);
    fail("a thread went on after its end");
}

void prepare(Fiber& fiber) {
    fiber.returned = false;
    fiber.exchanges = fiber.votes = 0;
#if defined(__x86_64__)
    auto top = reinterpret_cast<uintptr_t>(fiber.stack.get() + kStack) / 16 * 16;
    void** at = reinterpret_cast<void**>(top) - 2;  // so that the stack is aligned as after a call
    at[0] = reinterpret_cast<void*>(body);
    at[1] = nullptr;
    fiber.top = at - 6;
    std::memset(fiber.top, 0, 6 * sizeof(void*));
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, body, 0);
#endif
}

void wait_at(Barrier& barrier, unsigned expected, const char* otherwise) {
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        ++barrier.generation;
        machine.waiting_since_progress = 0;
        return;
    }
    while (barrier.generation == generation) {
        if (++machine.waiting_since_progress > 2 * machine.threads) fail(otherwise);
        hand_over();
    }
    machine.waiting_since_progress = 0;
}

}  // namespace

void block_barrier() {
    wait_at(machine.block, machine.threads - machine.returned, "a barrier that some thread of the block never reaches");
}

void warp_barrier() {
    wait_at(machine.warps[threadIdx.x / kWarp], kWarp, "a warp exchange without its whole warp");
}

uint64_t* exchange_slots() { return machine.slots[machine.fibers[machine.current].exchanges++ % 2]; }
uint64_t* vote_slots() { return machine.votes[machine.fibers[machine.current].votes++ % 2]; }

void launch(void (*run)(void*, void*), void* kernel, void* argument, dim3 grid, dim3 block) {
    const std::lock_guard<std::mutex> lock(one_launch);
    machine.run = run, machine.kernel = kernel, machine.argument = argument;
    machine.threads = block.x;
    while (machine.fibers.size() < block.x) machine.fibers.emplace_back();
    gridDim = grid, blockDim = block;
    for (unsigned index = 0; index < grid.x; ++index) {
        blockIdx = {index, 0, 0}, threadIdx = {0, 0, 0};
        for (unsigned i = 0; i < block.x; ++i) prepare(machine.fibers[i]);
        machine.current = machine.returned = machine.waiting_since_progress = 0;
        machine.block = Barrier{};
        std::fill(std::begin(machine.warps), std::end(machine.warps), Barrier{});
        switch_to(machine.host, machine.fibers[0]);
    }
}

}  // namespace emulation
