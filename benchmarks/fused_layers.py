"""What a GPU would execute for the dynamic head's Triton kernels, reckoned from their machine code without a GPU.

    python benchmarks/fused_layers.py                       # patch 160×160×96, 11 ROIs, batch 12, on an H100

Triton compiles for a GPU that is not there, and its disassembler shows the instructions of the loops. Milliseconds are
those in which the card's schedulers could issue them all, one a cycle and scheduler: a bound that no run goes below,
and that it misses by what it waits for memory and barriers. The plain layers' time is what their values take through
memory at its full bandwidth, each operation reading its inputs and writing its outputs once: such a bound too.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pipeline_lib.networks import fused_layers
from pipeline_lib.networks.head_parameters import WIDTH

WARPS = 4
# Of an H100 SXM, by its data sheet: 132 processors of 4 schedulers at up to 1.98 GHz, 3.35 TB/s.
INSTRUCTIONS_PER_SECOND = 132 * 4 * 1.98e9
BYTES_PER_SECOND = 3.35e12
BY_PRECISION = {"float32": ("fp32", torch.float32), "bfloat16": ("bf16", torch.bfloat16)}
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4}\*/\s+(?:@!?\w+\s+)?([A-Z]\w*)")
LABEL = re.compile(r"(\.L_x_\d+):")


class Compiled(NamedTuple):
    """Registers of a thread, bytes of its stack (where registers spill to), and instructions before and in the loop."""

    registers: int
    stack: int
    once: int
    in_loop: int


def compiled(kernel, capability: int, precision: str, voxels: int, maps: int, groups: int, span: int) -> Compiled:
    kind, _ = BY_PRECISION[precision]
    constants = {"groups": groups, "span": span, "columns": 2 * maps, "VOXELS": voxels}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    summed = ("biases", "grad_weights", "grad_biases")
    pointers = ("features", "weights", "logits", "grad_output", "grad_features")
    types = dict.fromkeys(constants, "constexpr") | dict.fromkeys(pointers, f"*{kind}") | dict.fromkeys(summed, "*fp32")
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    # As of real tensors, and of patches: what divides by 16 is read in larger pieces.
    even = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*") or name == "voxels"
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=even)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": WARPS})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(made.asm["cubin"])
        usage = nvidia_tool("cuobjdump", "--dump-resource-usage", file.name)
        registers, stack = (int(number) for number in re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
        return Compiled(registers, stack, *counted(nvidia_tool("nvdisasm", file.name)))


def nvidia_tool(name: str, *arguments: str) -> str:
    path = Path(triton.__file__).parent / "backends/nvidia/bin" / name
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout


def counted(assembly: str) -> tuple[int, int]:
    """Instructions outside and inside of the longest loop: the kernels have one each."""
    labels: dict[str, int] = {}
    position, longest = 0, 0
    for line in assembly.splitlines():
        if label := LABEL.match(line.strip()):
            labels[label[1]] = position
        elif INSTRUCTION.match(line):
            position += 1
            target = re.search(r"\bBRA.*?(\.L_x_\d+)", line)
            if target and target[1] in labels:
                longest = max(longest, position - labels[target[1]])
    return position - longest, longest


def plain_bytes(rois: int, maps: int, bytes_each: int) -> tuple[int, int]:
    """Bytes a voxel that `plain_layers` reads and writes in forward, and in backward with forward made again."""
    hidden, logits = rois * WIDTH, rois * maps
    # The second layer's outputs, as the first's, are written, and read and written again by the activation.
    forward = (WIDTH + hidden) + 2 * hidden + 2 * hidden + 2 * hidden + (hidden + logits)
    # Of each layer the product with its weights and that with its inputs, then the activation's mask.
    backward = 2 * (logits + hidden) + 3 * hidden + 2 * (hidden + hidden) + 3 * hidden + 2 * (hidden + WIDTH)
    return bytes_each * forward, bytes_each * (forward + backward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", type=int, nargs="+", default=[80, 90], help="80: A100, 90: H100")
    parser.add_argument("--precision", choices=list(BY_PRECISION), nargs="+", default=list(BY_PRECISION))
    parser.add_argument("--patch", type=int, nargs=3, default=[96, 160, 160], metavar=("D", "H", "W"))
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rois", type=int, default=11)
    parser.add_argument("--maps", type=int, default=1)
    options = parser.parse_args()
    D, H, W = options.patch
    voxels, groups = options.batch * D * H * W, -(-options.rois // 2)
    print("| kernel | compute capability | precision | registers | stack, bytes | instructions | ms |")
    print("|---|---|---|---|---|---|---|")
    for precision in options.precision:
        _, dtype = BY_PRECISION[precision]
        for capability in options.capability:
            for kernel, tile, loops in (
                (fused_layers._logits_kernel, fused_layers._VOXELS, groups),
                (fused_layers._features_gradient_kernel, fused_layers._VOXELS, groups),
                (fused_layers._parameters_gradient_kernel, fused_layers._VOXELS_OF_SUMS[dtype], groups),
            ):
                span = -(-voxels // tile * groups // fused_layers._SUMS)
                found = compiled(kernel, capability, precision, tile, options.maps, groups, span)
                # The last one loops over tiles, and what it does but once does not count.
                once = 0 if kernel is fused_layers._parameters_gradient_kernel else found.once
                executed = voxels / tile * WARPS * (once + loops * found.in_loop)
                print(
                    f"| {kernel.fn.__name__} | {capability / 10} | {precision} | {found.registers} | {found.stack} "
                    f"| {found.once} + {found.in_loop} | {1000 * executed / INSTRUCTIONS_PER_SECOND:.1f} |"
                )
        times = (
            1000 * voxels * each / BYTES_PER_SECOND for each in plain_bytes(options.rois, options.maps, dtype.itemsize)
        )
        print("plain layers in {}: forward {:.1f} ms, backward {:.1f} ms".format(precision, *times))


if __name__ == "__main__":
    main()
