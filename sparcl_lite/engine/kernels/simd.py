"""Vectors of 16 floats inside numba kernels: one position of 16 samples.

Numba leaves vectorising to LLVM; these intrinsics emit vectors directly. On processors without 512-bit registers LLVM
splits each of them.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTH = 16  # floats in a vector, samples in a block of the batch
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
LANES = range(WIDTH)
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


def start_of(context, builder, kind, array, index):
    """Pointer to `array[index]`; neither wraps around nor checks bounds."""
    return builder.gep(cgutils.create_struct_proxy(kind)(context, builder, value=array).data, [index])


def vector_at(builder, pointer, offset: int):
    place = builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)])
    return builder.bitcast(place, VECTOR.as_pointer())


def fused(builder, a, b, c):
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32"), [a, b, c])


def shuffled(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


def splat(builder, scalar):
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    undefined = ir.Constant(VECTOR, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0)), undefined, lanes
    )


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
    return vector(vector, vector, vector), lambda context, builder, signature, args: fused(builder, *args)


@intrinsic
def plus(typing, a, b):
    """a + b."""
    return vector(vector, vector), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def clip(typing, value, low, high):
    """`value` between two bounds (float32); what is no number stays so."""

    def emit(context, builder, signature, args):
        value, low, high = args[0], splat(builder, args[1]), splat(builder, args[2])
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        return builder.select(builder.fcmp_ordered(">", value, high), high, value)

    return vector(vector, types.float32, types.float32), emit


@intrinsic
def between(typing, test, low, high, value):
    """`value` where `test` lies between two bounds (float32) and on neither, else zero."""

    def emit(context, builder, signature, args):
        above = builder.fcmp_unordered(">", args[0], splat(builder, args[1]))
        below = builder.fcmp_unordered("<", args[0], splat(builder, args[2]))
        return builder.select(builder.and_(above, below), args[3], ZERO)

    return vector(vector, types.float32, types.float32, vector), emit


@intrinsic
def larger(typing, a, b):
    """The larger one of each pair, as `max_pool2d` takes it: what is no number is larger."""

    def emit(context, builder, signature, args):
        above = builder.or_(builder.fcmp_ordered(">", *args), builder.fcmp_unordered("uno", args[0], args[0]))
        return builder.select(above, *args)

    return vector(vector, vector), emit


@intrinsic
def divided(typing, a, divisor):
    """a / divisor (float32)."""

    def emit(context, builder, signature, args):
        return builder.fdiv(args[0], splat(builder, args[1]))

    return vector(vector, types.float32), emit


@intrinsic
def where_equal(typing, a, b, value):
    """`value` where a == b, else zero."""

    def emit(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("==", *args[:2]), args[2], ZERO)

    return vector(vector, vector, vector), emit


@intrinsic
def where_unequal(typing, a, b, value):
    """`value` where a != b, else zero."""

    def emit(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("==", *args[:2]), ZERO, args[2])

    return vector(vector, vector, vector), emit


@intrinsic
def transpose(typing, source, at, apart, target, to, distance):
    """Turn a square of 16 x 16 floats, whose rows lie `apart` floats from each other, `distance` in the target."""

    def emit(context, builder, signature, args):
        starts = [start_of(context, builder, signature.args[i], args[i], args[i + 1]) for i in (0, 3)]
        read, write = (
            [
                vector_at(builder, builder.gep(start, [builder.mul(step, ir.Constant(step.type, row))]), 0)
                for row in LANES
            ]
            for start, step in zip(starts, (args[2], args[5]), strict=True)
        )
        rows = [builder.load(place, align=4) for place in read]
        for half in (8, 4, 2, 1):  # swap the off-diagonal quarters of every square of 2 half x 2 half
            for row in LANES:
                if not row & half:
                    upper, lower = rows[row], rows[row | half]
                    left = [WIDTH + (lane ^ half) if lane & half else lane for lane in LANES]
                    right = [WIDTH + lane if lane & half else lane | half for lane in LANES]
                    rows[row] = shuffled(builder, upper, lower, left)
                    rows[row | half] = shuffled(builder, upper, lower, right)
        for value, place in zip(rows, write, strict=True):
            builder.store(value, place, align=4)
        return context.get_dummy_value()

    places = types.intp, types.intp
    return types.none(source, *places, target, *places), emit
