#!/usr/bin/python3
"""Random overlapping writes, trims and zeroes through NBD by libnbd, with a model of what must be there.

Usage: random_writes.py SOCKET EXPORT COUNT POINTS MODEL_PREFIX SEED COMMAND...
At POINTS evenly spaced moments it flushes, saves the model as MODEL_PREFIX.N and runs COMMAND.
"""
import random
import subprocess
import sys

import nbd

socket, export, count, points, prefix, seed = sys.argv[1:7]
command = sys.argv[7:]
count, points = int(count), int(points)
chance = random.Random(int(seed))

handle = nbd.NBD()
handle.set_export_name(export)
handle.connect_unix(socket)
size = handle.get_size()
model = bytearray(size)
noise = chance.randbytes(4 << 20)
every = count // points

for number in range(1, count + 1):
    # From 512 B to 1 MiB, small ones far more often.
    length = min(512 << int(12 * chance.random() ** 6), 1 << 20)
    if length > 512:
        length -= 512 * chance.randrange(length // 1024 + 1)
    offset = 512 * chance.randrange((size - length) // 512 + 1)
    kind = chance.random()
    if kind < 0.9:
        start = chance.randrange(len(noise) - length)
        data = noise[start:start + length] if kind < 0.7 else bytes([number % 251]) * length
        handle.pwrite(data, offset)
        model[offset:offset + length] = data
    elif kind < 0.95:
        handle.trim(length, offset)
        model[offset:offset + length] = bytes(length)
    else:
        handle.zero(length, offset)
        model[offset:offset + length] = bytes(length)
    if number % every == 0:
        handle.flush()
        with open(f"{prefix}.{number // every}", "wb") as file:
            file.write(model)
        subprocess.run(command, check=True)

# What the volume says now is what the model says.
for offset in range(0, size, 1 << 20):
    length = min(1 << 20, size - offset)
    if handle.pread(length, offset) != model[offset:offset + length]:
        sys.exit(f"the live volume differs from the model in the MiB at {offset}")
handle.shutdown()
