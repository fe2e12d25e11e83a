"""Vectors of 16 floats inside numba kernels: tiles of accumulators that stay in registers.

Numba leaves vectorising to LLVM, which keeps no block of results in registers over a loop of unknown length. These
intrinsics emit that code directly: a tile is a tuple of `rows x cols` vectors, one per output position, each holding
16 samples. On processors without 512-bit registers LLVM splits every vector, hence the smaller tiles there.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTH = 16  # floats in a vector, samples in a block of the batch
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
ZERO = ir.Constant(VECTOR, None)
FOUR = ir.VectorType(ir.FloatType(), 4)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float32x16")


vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, VECTOR)


def has_wide_registers() -> bool:
    """Whether a vector fits into one register of this processor."""
    return bool(llvm.get_host_cpu_features().get("avx512f"))


def start_of(context, builder, kind, array, index):
    """Pointer to `array[index]`; neither wraps around nor checks bounds."""
    return builder.gep(cgutils.create_struct_proxy(kind)(context, builder, value=array).data, [index])


def vector_at(builder, pointer, offset: int):
    place = builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)])
    return builder.bitcast(place, VECTOR.as_pointer())


def _fma(builder, a, b, c):
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32"), [a, b, c])


def _four_sums(builder, vectors):
    """The sums of four vectors, as one vector of four: together they take a third of the work of four single sums."""

    def both(a, b, first, second):
        """The sum of two ways to take entries of a and b (from 16 on)."""
        return builder.fadd(*(shuffled(builder, a, b, lanes) for lanes in (first, second)))

    def quarters(pattern):
        """The same pick in each quarter of the vectors."""
        return [4 * quarter + lane for quarter in range(4) for lane in pattern]

    low, high = quarters((0, WIDTH, 1, WIDTH + 1)), quarters((2, WIDTH + 2, 3, WIDTH + 3))
    a, b = (both(*pair, low, high) for pair in (vectors[:2], vectors[2:]))
    a = both(a, b, quarters((0, 1, WIDTH, WIDTH + 1)), quarters((2, 3, WIDTH + 2, WIDTH + 3)))
    a = both(a, a, range(8), range(8, 16))
    return both(a, a, range(4), range(4, 8))


def shuffled(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


def _splat(builder, scalar):
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    undefined = ir.Constant(VECTOR, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0)), undefined, lanes
    )


@intrinsic
def sums(typing, tile):
    """The sum of a tile's vectors, and the sum of their squares: two vectors."""
    result = types.UniTuple(vector, 2)

    def emit(context, builder, signature, args):
        total, squares = ZERO, ZERO
        for value in cgutils.unpack_tuple(builder, args[0]):
            total, squares = builder.fadd(total, value), _fma(builder, value, value, squares)
        return context.make_tuple(builder, result, [total, squares])

    return result(tile), emit


@intrinsic
def add_to(typing, array, index, value):
    """array[index : index + 16] += value."""

    def emit(context, builder, signature, args):
        place = vector_at(builder, start_of(context, builder, signature.args[0], args[0], args[1]), 0)
        builder.store(builder.fadd(builder.load(place, align=4), args[2]), place, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), emit


@intrinsic
def load(typing, array, index):
    """array[index : index + 16] as a vector."""

    def emit(context, builder, signature, args):
        return builder.load(vector_at(builder, start_of(context, builder, signature.args[0], *args), 0), align=64)

    return vector(array, types.intp), emit


@intrinsic
def store(typing, array, index, value):
    """array[index : index + 16] = value."""

    def emit(context, builder, signature, args):
        place = vector_at(builder, start_of(context, builder, signature.args[0], args[0], args[1]), 0)
        builder.store(args[2], place, align=64)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), emit


@intrinsic
def nothing(typing):
    """A vector of zeros."""
    return vector(), lambda context, builder, signature, args: ZERO


@intrinsic
def fma(typing, a, b, c):
    """a * b + c."""
    return vector(vector, vector, vector), lambda context, builder, signature, args: _fma(builder, *args)


@intrinsic
def plus(typing, a, b):
    """a + b."""
    return vector(vector, vector), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def clip(typing, value, low, high):
    """`value` between two bounds (float32); what is no number stays so."""

    def emit(context, builder, signature, args):
        value, low, high = args[0], _splat(builder, args[1]), _splat(builder, args[2])
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        return builder.select(builder.fcmp_ordered(">", value, high), high, value)

    return vector(vector, types.float32, types.float32), emit


@intrinsic
def between(typing, test, low, high, value):
    """`value` where `test` lies between two bounds (float32) and on neither, else zero."""

    def emit(context, builder, signature, args):
        above = builder.fcmp_unordered(">", args[0], _splat(builder, args[1]))
        below = builder.fcmp_unordered("<", args[0], _splat(builder, args[2]))
        return builder.select(builder.and_(above, below), args[3], ZERO)

    return vector(vector, types.float32, types.float32, vector), emit


def tile_functions(rows: int, cols: int, step: int):
    """The operations on a `rows x cols` tile whose sources lie `step` positions apart (a convolution's stride).

    Indices count floats; `row` is the distance of two rows. All vectors must be aligned to 64 bytes.
    """
    tile = types.UniTuple(vector, rows * cols)
    places = [(r, c) for r in range(rows) for c in range(cols)]

    def spread(builder, pointer, row, apart):
        """Pointers to the vectors of all positions; `apart` floats between columns."""
        starts = [builder.gep(pointer, [builder.mul(row, ir.Constant(row.type, r))]) for r in range(rows)]
        return [vector_at(builder, starts[r], c * apart) for r, c in places]

    @intrinsic
    def zeros(typing):
        """A tile of zeros."""

        def emit(context, builder, signature, args):
            return context.make_tuple(builder, tile, [ZERO] * len(places))

        return tile(), emit

    @intrinsic
    def read(typing, array, index, row):
        """The tile at `index`, its positions side by side or `step` apart."""

        def emit(context, builder, signature, args):
            start = start_of(context, builder, signature.args[0], args[0], args[1])
            found = [builder.load(p, align=64) for p in spread(builder, start, args[2], step * WIDTH)]
            return context.make_tuple(builder, tile, found)

        return tile(array, types.intp, types.intp), emit

    @intrinsic
    def write(typing, array, index, row, values):
        """Put a tile at `index`, as `read` finds it."""

        def emit(context, builder, signature, args):
            start = start_of(context, builder, signature.args[0], args[0], args[1])
            targets = spread(builder, start, args[2], step * WIDTH)
            for value, place in zip(cgutils.unpack_tuple(builder, args[3]), targets, strict=True):
                builder.store(value, place, align=64)
            return context.get_dummy_value()

        return types.none(array, types.intp, types.intp, tile), emit

    @intrinsic
    def multiply(typing, tile_, x, offsets, values, begin, end, base, row):
        """tile + sum over nonzeros z in [begin, end) of values[z] * x[base + offsets[z] : ...], `step` apart."""

        def emit(context, builder, signature, args):
            initial = cgutils.unpack_tuple(builder, args[0])
            begin, end, base, row = args[4:]
            source, where, weight = (
                start_of(context, builder, signature.args[i], args[i], i_)
                for i, i_ in ((1, base), (2, begin), (3, begin))
            )
            entry = builder.block
            loop, done = builder.append_basic_block("nonzero"), builder.append_basic_block("done")
            count = builder.sub(end, begin)
            zero = ir.Constant(count.type, 0)
            builder.cbranch(builder.icmp_signed(">", count, zero), loop, done)
            builder.position_at_end(loop)
            number = builder.phi(count.type)
            number.add_incoming(zero, entry)
            held = [builder.phi(VECTOR) for _ in places]
            offset = builder.sext(builder.load(builder.gep(where, [number])), count.type)
            factor = _splat(builder, builder.load(builder.gep(weight, [number])))
            pointers = spread(builder, builder.gep(source, [offset]), row, step * WIDTH)
            updated = [_fma(builder, factor, builder.load(p, align=64), a) for p, a in zip(pointers, held, strict=True)]
            following = builder.add(number, ir.Constant(count.type, 1))
            number.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
            builder.position_at_end(done)
            results = []
            for first, phi, value in zip(initial, held, updated, strict=True):
                phi.add_incoming(first, entry)
                phi.add_incoming(value, loop)
                result = builder.phi(VECTOR)
                result.add_incoming(first, entry)
                result.add_incoming(value, loop)
                results.append(result)
            return context.make_tuple(builder, tile, results)

        return tile(tile, x, offsets, values, *[types.intp] * 4), emit

    @intrinsic
    def dot(typing, tile_, x, index, row):
        """Sum of the tile times the tile of `x` at `index`, `step` apart."""

        def emit(context, builder, signature, args):
            start = start_of(context, builder, signature.args[1], args[1], args[2])
            chains = [ZERO] * 4  # independent, so that multiplications overlap
            pointers = spread(builder, start, args[3], step * WIDTH)
            for i, (value, p) in enumerate(zip(cgutils.unpack_tuple(builder, args[0]), pointers, strict=True)):
                chains[i % 4] = _fma(builder, value, builder.load(p, align=64), chains[i % 4])
            total = builder.fadd(builder.fadd(chains[0], chains[1]), builder.fadd(chains[2], chains[3]))
            kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), VECTOR])
            reduce = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fadd.v16f32")
            return builder.call(reduce, [ir.Constant(ir.FloatType(), 0.0), total], fastmath=("reassoc", "nsz"))

        return types.float32(tile, x, types.intp, types.intp), emit

    @intrinsic
    def add_four_dots(typing, tile_, x, base, offsets, k, row, out):
        """out[k : k + 4] += the tile times each of the tiles of `x` at base + offsets[k : k + 4], `step` apart."""

        def emit(context, builder, signature, args):
            values, base, k, row = cgutils.unpack_tuple(builder, args[0]), args[2], args[4], args[5]
            source, where, target = (
                start_of(context, builder, signature.args[i], args[i], at) for i, at in ((1, base), (3, k), (6, k))
            )
            pointers = []
            for j in range(4):
                offset = builder.load(builder.gep(where, [ir.Constant(k.type, j)]))
                start = builder.gep(source, [builder.sext(offset, k.type)])
                pointers.append(spread(builder, start, row, step * WIDTH))
            chains = [ZERO] * 4
            for i, value in enumerate(values):
                chains = [_fma(builder, value, builder.load(pointers[j][i], align=64), chains[j]) for j in range(4)]
            place = builder.bitcast(target, FOUR.as_pointer())
            builder.store(builder.fadd(builder.load(place, align=4), _four_sums(builder, chains)), place, align=4)
            return context.get_dummy_value()

        return types.none(tile, x, types.intp, offsets, types.intp, types.intp, out), emit

    return zeros, read, write, multiply, dot, add_four_dots
