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


def _start(context, builder, kind, array, index):
    """Pointer to `array[index]`; neither wraps around nor checks bounds."""
    return builder.gep(cgutils.create_struct_proxy(kind)(context, builder, value=array).data, [index])


def _vector_at(builder, pointer, offset: int):
    place = builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)])
    return builder.bitcast(place, VECTOR.as_pointer())


def _fma(builder, a, b, c):
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32"), [a, b, c])


def _where_positive(builder, test, value):
    return builder.select(builder.fcmp_ordered(">", test, ZERO), value, ZERO)


def _splat(builder, scalar):
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    undefined = ir.Constant(VECTOR, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0)), undefined, lanes
    )


@intrinsic
def sums(typing, tile, other):
    """The sum of a tile's vectors, and the sum of their products with those of another: two vectors."""
    result = types.UniTuple(vector, 2)

    def emit(context, builder, signature, args):
        total, products = ZERO, ZERO
        for value, factor in zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True):
            total, products = builder.fadd(total, value), _fma(builder, value, factor, products)
        return context.make_tuple(builder, result, [total, products])

    return result(tile, other), emit


@intrinsic
def affine(typing, tile, scale, shift):
    """tile * scale + shift; both are vectors."""

    def emit(context, builder, signature, args):
        results = [_fma(builder, value, args[1], args[2]) for value in cgutils.unpack_tuple(builder, args[0])]
        return context.make_tuple(builder, tile, results)

    return tile(tile, vector, vector), emit


@intrinsic
def gated(typing, tile, test):
    """`tile` where the tile `test` is above zero, else zero."""

    def emit(context, builder, signature, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return context.make_tuple(builder, tile, [_where_positive(builder, t, value) for value, t in pairs])

    return tile(tile, test), emit


@intrinsic
def add_to(typing, array, index, value):
    """array[index : index + 16] += value."""

    def emit(context, builder, signature, args):
        place = _vector_at(builder, _start(context, builder, signature.args[0], args[0], args[1]), 0)
        builder.store(builder.fadd(builder.load(place, align=4), args[2]), place, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), emit


@intrinsic
def load(typing, array, index):
    """array[index : index + 16] as a vector."""

    def emit(context, builder, signature, args):
        return builder.load(_vector_at(builder, _start(context, builder, signature.args[0], *args), 0), align=64)

    return vector(array, types.intp), emit


@intrinsic
def store(typing, array, index, value):
    """array[index : index + 16] = value."""

    def emit(context, builder, signature, args):
        place = _vector_at(builder, _start(context, builder, signature.args[0], args[0], args[1]), 0)
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
def where_positive(typing, test, value):
    """`value` where `test` is above zero, else zero."""

    return vector(vector, vector), lambda context, builder, signature, args: _where_positive(builder, *args)


def tile_functions(rows: int, cols: int, step: int):
    """The operations on a `rows x cols` tile whose sources lie `step` positions apart (a convolution's stride).

    Indices count floats; `row` is the distance of two rows. All vectors must be aligned to 64 bytes.
    """
    tile = types.UniTuple(vector, rows * cols)
    places = [(r, c) for r in range(rows) for c in range(cols)]

    def spread(builder, pointer, row, apart):
        """Pointers to the vectors of all positions; `apart` floats between columns."""
        starts = [builder.gep(pointer, [builder.mul(row, ir.Constant(row.type, r))]) for r in range(rows)]
        return [_vector_at(builder, starts[r], c * apart) for r, c in places]

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
            start = _start(context, builder, signature.args[0], args[0], args[1])
            found = [builder.load(p, align=64) for p in spread(builder, start, args[2], step * WIDTH)]
            return context.make_tuple(builder, tile, found)

        return tile(array, types.intp, types.intp), emit

    @intrinsic
    def write(typing, array, index, row, values):
        """Put a tile at `index`, as `read` finds it."""

        def emit(context, builder, signature, args):
            start = _start(context, builder, signature.args[0], args[0], args[1])
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
                _start(context, builder, signature.args[i], args[i], i_)
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
            start = _start(context, builder, signature.args[1], args[1], args[2])
            chains = [ZERO] * 4  # independent, so that multiplications overlap
            pointers = spread(builder, start, args[3], step * WIDTH)
            for i, (value, p) in enumerate(zip(cgutils.unpack_tuple(builder, args[0]), pointers, strict=True)):
                chains[i % 4] = _fma(builder, value, builder.load(p, align=64), chains[i % 4])
            total = builder.fadd(builder.fadd(chains[0], chains[1]), builder.fadd(chains[2], chains[3]))
            kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), VECTOR])
            reduce = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fadd.v16f32")
            return builder.call(reduce, [ir.Constant(ir.FloatType(), 0.0), total], fastmath=("reassoc", "nsz"))

        return types.float32(tile, x, types.intp, types.intp), emit

    return zeros, read, write, multiply, dot
