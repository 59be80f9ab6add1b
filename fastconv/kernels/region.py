"""A parallel region in machine code: how a caller and the workers share the tiles of a loop without Python.

Words
-----
A pool is one *control block* (CTL, an address), in lines of 128 bytes so that no two threads write near each
other by accident (two cache lines: the neighbour is prefetched together)::

    byte                  word 0        1             2            3            4             5
       0  OWNER           owned
     128  STATE           generation << 32 | OPEN << 31 | WAITING << 30 | limit << 15 | active
     256  JOB             thunk         environment   tiles        fp control
     384  NEXT            next tile
     512  ERROR           claimed       status code   exception
     640  COUNTS          workers       stopping
     768  SETTINGS        acquire       release       done lock    worker turns caller turns
     896  AFFINITY        getcpu        getaffinity   setaffinity
    1024  MASK_CALLER     CPUs the caller may run on, 1024 bits
    1152  MASK_WORKER     CPUs a worker may run on, 1024 bits
    1280 + 128*w  worker  asleep        lock          regions      thread id    CPU avoided

Protocol
--------
1. **Own.** A caller takes OWNER by compare-and-swap. If another one has it, it runs all its tiles alone: no
   caller ever waits for another, and a nested region inside a tile runs alone too.
2. **Open.** The owner writes JOB, NEXT and ERROR, then stores one new STATE word: generation + 1, OPEN, the number
   of workers it admits (limit), active = 0. It wakes the admitted workers that sleep, and works itself as tid 0.
3. **Join.** Worker w may join while STATE is OPEN, w < limit, and it has not served this generation. It joins by
   compare-and-swap STATE -> STATE + 1 (active + 1); so it is counted before it reads JOB, and never joins a region
   that was closed in between: any change of STATE fails the swap. Its tid is w + 1.
4. **Work.** All take tiles by fetch-and-add on NEXT until there are none.
5. **Close.** The owner, out of tiles, clears OPEN: nobody joins any more. It waits until active = 0, that is for those
   who *joined*; a worker that is late, asleep, dead, or left behind by a fork cannot hold it up. It spins first;
   then it sets WAITING and sleeps on the done lock, which the worker that takes active to 0 releases: setting the
   flag and seeing active > 0 is one atomic operation, so exactly one of the two sees the other.
6. **Leave.** The owner copies ERROR to its own stack and clears OWNER.

**Sleep and wake.** A worker out of work spins for a bounded time, then sets its `asleep` word and looks at STATE
once more; a caller stores STATE and then looks at `asleep`. Both are sequentially consistent, so at least one sees
the other (Dekker). Whoever swaps `asleep` from 1 to 0 owns the wake-up: the worker by going on, the caller by releasing
the worker's lock, on which the worker sleeps. The locks are CPython's (PyThread_acquire_lock through its
address): they need no GIL, are used as binary semaphores, and exist wherever CPython does.

**Numbers.** The generation wraps around at 2**32. Nothing goes wrong then: a swap that succeeds on an equal word joins a
region that is really open, and a worker that mistakes a region for one that it served stays out of it.

**Errors.** The first tile that fails claims ERROR; NEXT is moved past the end so that no further tile starts; the
caller raises the exception.

**Floating point.** Workers take over the caller's rounding mode and flush-to-zero for the region, so
that results have the same bits for any number of threads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.callconv import excinfo_ptr_t
from numba.extending import intrinsic

from fastconv.kernels._jit import jit
from fastconv.kernels.atomics import (
    I32,
    I64,
    PTR,
    VOID,
    compare_and_swap,
    exchange,
    fetch_add,
    fetch_and,
    fetch_or,
    load_acquire,
    load_relaxed,
    load_seq_cst,
    native_call,
    read_fp_control,
    spin_hint,
    store_relaxed,
    store_release,
    write_fp_control,
)

#: Bytes between words that different threads write.
LINE = 128

OWNER = 0 * LINE
STATE = 1 * LINE
JOB_THUNK, JOB_ENVIRONMENT, JOB_TILES, JOB_FP_CONTROL = range(2 * LINE, 2 * LINE + 32, 8)
NEXT = 3 * LINE
ERROR, ERROR_CODE, ERROR_EXCEPTION = range(4 * LINE, 4 * LINE + 24, 8)
WORKERS, STOPPING = range(5 * LINE, 5 * LINE + 16, 8)
ACQUIRE, RELEASE, DONE_LOCK, WORKER_TURNS, CALLER_TURNS = range(6 * LINE, 6 * LINE + 40, 8)
GETCPU, GETAFFINITY, SETAFFINITY = range(7 * LINE, 7 * LINE + 24, 8)
MASK_CALLER, MASK_WORKER = 8 * LINE, 9 * LINE
FIRST_WORKER = 10 * LINE
#: Offsets within a worker's line.
ASLEEP, LOCK, REGIONS, THREAD_ID, CPU_AVOIDED = range(0, 40, 8)

GENERATION_SHIFT = 32
OPEN = 1 << 31
WAITING = 1 << 30
LIMIT_SHIFT = 15
COUNT_MASK = (1 << 15) - 1

MASK_NBYTES = 128
MASK_WORDS = MASK_NBYTES // 8
MASK_CPUS = 8 * MASK_NBYTES

#: ``call_thunk(thunk, error, environment, i, tid) -> 0`` or 1 where the tile raised.
call_thunk = native_call(I64, [PTR, PTR, I64, I64])
call_acquire = native_call(I32, [PTR, I32])
call_release = native_call(VOID, [PTR])
call_getcpu = native_call(I32, [])
#: Both take (thread id, bytes of the mask, mask).
call_getaffinity = call_setaffinity = native_call(I32, [I32, I64, PTR])


@jit
def run_tiles(ctl: int, thunk: int, environment: int, ntiles: int, tid: int) -> None:
    """Take and run tiles until none is left."""
    while True:
        i = fetch_add(ctl + NEXT, 1)
        if i >= ntiles:
            return
        if call_thunk(thunk, ctl + ERROR, environment, i, tid) != 0:
            fetch_add(ctl + NEXT, ntiles)
            return


@jit
def may_join(state: int, worker: int, served: int) -> bool:
    """Tell whether `worker`, who last served generation `served`, may join the region of this state word."""
    return (state & OPEN) != 0 and (state >> GENERATION_SHIFT) != served and worker < ((state >> LIMIT_SHIFT) & COUNT_MASK)


@jit
def serve(ctl: int, worker: int) -> None:
    """Work for the pool until it stops; the whole life of a worker thread, without the GIL."""
    line = ctl + FIRST_WORKER + worker * LINE
    turns = load_relaxed(ctl + WORKER_TURNS)
    left = turns
    served = -1
    while True:
        state = load_acquire(ctl + STATE)
        if may_join(state, worker, served):
            if compare_and_swap(ctl + STATE, state, state + 1) != 0:
                served = state >> GENERATION_SHIFT
                work_in_region(ctl, line, worker + 1)
                left = turns
            continue
        left -= 1
        if left > 0:
            spin_hint()
            continue
        if load_acquire(ctl + STOPPING) != 0:
            return
        exchange(line + ASLEEP, 1)
        found = may_join(load_seq_cst(ctl + STATE), worker, served) or load_seq_cst(ctl + STOPPING) != 0
        if not found or exchange(line + ASLEEP, 0) == 0:
            call_acquire(load_relaxed(ctl + ACQUIRE), load_relaxed(line + LOCK), 1)
        left = turns


@jit
def work_in_region(ctl: int, line: int, tid: int) -> None:
    """Run tiles of the region just joined, and leave it."""
    own_fp_control = read_fp_control()
    fp_control = load_relaxed(ctl + JOB_FP_CONTROL)
    if fp_control != own_fp_control:
        write_fp_control(fp_control)
    thunk, environment = load_relaxed(ctl + JOB_THUNK), load_relaxed(ctl + JOB_ENVIRONMENT)
    run_tiles(ctl, thunk, environment, load_relaxed(ctl + JOB_TILES), tid)
    store_relaxed(line + REGIONS, load_relaxed(line + REGIONS) + 1)
    old = fetch_add(ctl + STATE, -1)
    if (old & WAITING) != 0 and (old & COUNT_MASK) == 1:
        call_release(load_relaxed(ctl + RELEASE), load_relaxed(ctl + DONE_LOCK))


@jit
def wake(ctl: int, workers: int) -> None:
    """Wake those of the first `workers` workers that sleep."""
    for worker in range(workers):
        line = ctl + FIRST_WORKER + worker * LINE
        if load_seq_cst(line + ASLEEP) != 0 and exchange(line + ASLEEP, 0) == 1:
            if load_acquire(ctl + STOPPING) == 0:
                avoid_own_cpu(ctl, line)
            call_release(load_relaxed(ctl + RELEASE), load_relaxed(line + LOCK))


@jit
def avoid_own_cpu(ctl: int, line: int) -> None:
    """Keep a sleeping worker off the CPU that the caller runs on: Linux often wakes it right there.

    The worker's mask becomes the caller's without the CPU that the caller is on; so it always stays within what
    the caller may use. It is left alone where it is not the caller's mask less at most one CPU, because then
    somebody else has set it, and where no CPU would remain.
    """
    thread_id = load_relaxed(line + THREAD_ID)
    if load_relaxed(ctl + GETCPU) == 0 or thread_id <= 0:
        return
    cpu = call_getcpu(load_relaxed(ctl + GETCPU))
    if cpu < 0 or cpu >= MASK_CPUS or cpu == load_relaxed(line + CPU_AVOIDED):
        return
    getaffinity, mine, its = load_relaxed(ctl + GETAFFINITY), ctl + MASK_CALLER, ctl + MASK_WORKER
    if call_getaffinity(getaffinity, 0, MASK_NBYTES, mine) < 0:
        return
    if call_getaffinity(getaffinity, thread_id, MASK_NBYTES, its) < 0:
        return
    missing = 0
    remaining = 0
    for k in range(MASK_WORDS):
        caller, worker = load_relaxed(mine + 8 * k), load_relaxed(its + 8 * k)
        if worker & ~caller != 0:
            return
        absent = caller & ~worker
        if absent != 0:
            missing += 1 if absent & (absent - 1) == 0 else 2
        if k == cpu >> 6:
            caller &= ~(1 << (cpu & 63))
            store_relaxed(mine + 8 * k, caller)
        remaining |= caller
    if missing > 1 or remaining == 0:
        return
    if call_setaffinity(load_relaxed(ctl + SETAFFINITY), thread_id, MASK_NBYTES, mine) == 0:
        store_relaxed(line + CPU_AVOIDED, cpu)


@jit
def run_region(ctl: int, nthreads: int, thunk: int, environment: int, ntiles: int, error: int) -> None:
    """Run tiles 0 .. ntiles-1 on at most `nthreads` threads; `error` points at three words for the outcome."""
    helpers = min(nthreads, ntiles) - 1
    if ctl != 0:
        helpers = min(helpers, load_acquire(ctl + WORKERS))
    if ctl == 0 or helpers < 1 or compare_and_swap(ctl + OWNER, 0, 1) == 0:
        for i in range(ntiles):
            if call_thunk(thunk, error, environment, i, 0) != 0:
                return
        return
    store_relaxed(ctl + JOB_THUNK, thunk)
    store_relaxed(ctl + JOB_ENVIRONMENT, environment)
    store_relaxed(ctl + JOB_TILES, ntiles)
    store_relaxed(ctl + JOB_FP_CONTROL, read_fp_control())
    store_relaxed(ctl + NEXT, 0)
    store_relaxed(ctl + ERROR, 0)
    generation = (load_relaxed(ctl + STATE) >> GENERATION_SHIFT) + 1
    exchange(ctl + STATE, (generation << GENERATION_SHIFT) | OPEN | (helpers << LIMIT_SHIFT))
    wake(ctl, helpers)
    run_tiles(ctl, thunk, environment, ntiles, 0)
    fetch_and(ctl + STATE, ~OPEN)
    wait_for_workers(ctl)
    if load_relaxed(ctl + ERROR) != 0:
        for word in range(0, 24, 8):
            store_relaxed(error + word, load_relaxed(ctl + ERROR + word))
    store_release(ctl + OWNER, 0)


@jit
def wait_for_workers(ctl: int) -> None:
    """Wait until those who joined the closed region have left it."""
    for _ in range(load_relaxed(ctl + CALLER_TURNS)):
        if (load_acquire(ctl + STATE) & COUNT_MASK) == 0:
            return
        spin_hint()
    if (fetch_or(ctl + STATE, WAITING) & COUNT_MASK) != 0:
        call_acquire(load_relaxed(ctl + ACQUIRE), load_relaxed(ctl + DONE_LOCK), 1)


@jit
def spin(turns: int) -> None:
    """Spin for a number of turns; to measure how long one takes."""
    for _ in range(turns):
        spin_hint()


RUN_REGION_TYPES = (types.int64,) * 6
SERVE_TYPES = (types.int64,) * 2


def _emit_thunk(context: Any, builder: Any, compiled: Any, arguments: Any) -> Any:
    """Write ``i64 thunk(error, environment, i, tid)``: load the arguments, run the tile, note an exception."""
    module = builder.module
    kind = ir.FunctionType(I64, [PTR, PTR, I64, I64])
    thunk = ir.Function(module, kind, module.get_unique_name("fastconv_tile"))
    thunk.linkage = "internal"
    b = ir.IRBuilder(thunk.append_basic_block("entry"))
    error, environment, i, tid = thunk.args
    packed = b.load(environment, typ=context.get_value_type(arguments))
    values = [i, tid, *cgutils.unpack_tuple(b, packed, len(arguments.types))]
    status, _ = context.call_internal_no_propagate(b, compiled.fndesc, compiled.signature, values)
    failed = b.and_(status.is_error, b.not_(status.is_none))
    with b.if_then(failed, likely=False):
        swap = b.cmpxchg(b.bitcast(error, I64.as_pointer()), I64(0), I64(1), "seq_cst", "seq_cst")
        with b.if_then(b.extract_value(swap, 1)):
            b.store(b.sext(status.code, I64), b.gep(error, [I64(1)], source_etype=I64))
            b.store(b.ptrtoint(status.excinfoptr, I64), b.gep(error, [I64(2)], source_etype=I64))
        b.ret(I64(1))
    b.ret(I64(0))
    return thunk


def _link(context: Any, dispatcher: Any, argument_types: tuple[Any, ...]) -> Any:
    """Compile `dispatcher` for these types and link it to the function being compiled."""
    called = dispatcher.called()
    called.compile(argument_types)
    compiled = called.overloads[argument_types]
    context.active_code_library.add_linking_library(compiled.library)
    return compiled


@intrinsic  # type: ignore[untyped-decorator]
def _parallel_for(typingctx: Any, ctl: Any, nthreads: Any, ntiles: Any, tile: Any, args: Any) -> Any:  # noqa: ARG001
    tile_types = (types.int64, types.int64, *args.types)
    tile.get_call_type(typingctx, tile_types, {})  # typing errors of the tile surface here
    signature = types.none(types.int64, types.int64, types.int64, tile, args)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        compiled = _link(context, tile.dispatcher, tile_types)
        region = _link(context, run_region, RUN_REGION_TYPES)
        thunk = _emit_thunk(context, builder, compiled, args)
        environment = cgutils.alloca_once_value(builder, values[4])
        three_words = ir.ArrayType(I64, 3)
        error = cgutils.alloca_once(builder, three_words)
        builder.store(ir.Constant(three_words, None), error)
        addresses = [builder.ptrtoint(pointer, I64) for pointer in (thunk, environment, error)]
        words = [values[0], values[1], addresses[0], addresses[1], values[2], addresses[2]]
        context.call_internal(builder, region.fndesc, region.signature, words)
        claimed, code, exception = (builder.load(builder.gep(error, [I32(0), I32(k)], source_etype=three_words), typ=I64) for k in range(3))
        with builder.if_then(builder.icmp_unsigned("!=", claimed, I64(0)), likely=False):
            status = context.call_conv._get_return_status(  # noqa: SLF001  the only way to rebuild a status
                builder, builder.trunc(code, I32), builder.inttoptr(exception, excinfo_ptr_t)
            )
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return signature, codegen


def _serial_for(ctl: int, nthreads: int, ntiles: int, tile: Any, args: tuple[Any, ...]) -> None:  # noqa: ARG001
    """Do what `parallel_for` does, as a plain loop: used where the JIT is switched off."""
    for i in range(ntiles):
        tile(i, 0, *args)


#: ``parallel_for(ctl, nthreads, ntiles, tile, args)`` in jitted code runs ``tile(i, tid, *args)`` for i in
#: range(ntiles) on at most `nthreads` threads, in any order. `tile` is a jitted module-level function, `args` a
#: tuple; `ctl` comes from ``pool.handle(nthreads)``, 0 means: alone. `tid` is below `nthreads`, and no two
#: threads of a region have the same, so scratch memory may be indexed by it. The first exception of a tile
#: is raised here; further tiles are not started then.
parallel_for: Any = _serial_for if config.DISABLE_JIT else _parallel_for
