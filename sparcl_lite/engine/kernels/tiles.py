"""Tiles of vectors that stay in registers: the operations of the products in `convolution`.

A tile is a tuple of `rows x cols` vectors, one per output position, each holding 16 samples. LLVM left alone keeps no
block of results in registers over a loop of unknown length. Where registers are narrower than a vector, tiles are
smaller.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparcl_lite.engine.kernels.simd import VECTOR, WIDTH, ZERO, fused, shuffled, splat, start_of, vector, vector_at

FOUR = ir.VectorType(ir.FloatType(), 4)


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


@intrinsic
def sums(typing, tile):
    """The sum of a tile's vectors, and the sum of their squares: two vectors."""
    result = types.UniTuple(vector, 2)

    def emit(context, builder, signature, args):
        total, squares = ZERO, ZERO
        for value in cgutils.unpack_tuple(builder, args[0]):
            total, squares = builder.fadd(total, value), fused(builder, value, value, squares)
        return context.make_tuple(builder, result, [total, squares])

    return result(tile), emit


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
            factor = splat(builder, builder.load(builder.gep(weight, [number])))
            pointers = spread(builder, builder.gep(source, [offset]), row, step * WIDTH)
            updated = [
                fused(builder, factor, builder.load(p, align=64), a) for p, a in zip(pointers, held, strict=True)
            ]
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
                chains[i % 4] = fused(builder, value, builder.load(p, align=64), chains[i % 4])
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
                chains = [fused(builder, value, builder.load(pointers[j][i], align=64), chains[j]) for j in range(4)]
            place = builder.bitcast(target, FOUR.as_pointer())
            builder.store(builder.fadd(builder.load(place, align=4), _four_sums(builder, chains)), place, align=4)
            return context.get_dummy_value()

        return types.none(tile, x, types.intp, offsets, types.intp, types.intp, out), emit

    return zeros, read, write, multiply, dot, add_four_dots
