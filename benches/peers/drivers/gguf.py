"""GGUF files: their headers, and copies with other values in them."""

import os
import shutil
import struct
from pathlib import Path

# Types of values that are plain numbers.
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
U32, STRING, ARRAY = 4, 8, 9


class Gguf:
    """The header of a file."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as self.file:
            if self.file.read(4) != b"GGUF":
                raise ValueError("no GGUF file")
            _, n_tensors, n_values = self.unpack("<IQQ")
            self.values = {}
            # key → where it begins and ends
            self.places = {}
            for _ in range(n_values):
                start, key = self.file.tell(), self.text()
                self.values[key] = self.value(self.unpack("<I")[0])
                self.places[key] = start, self.file.tell()
            self.infos = self.file.tell()
            # name → dimensions, type, offset
            self.tensors = {}
            for _ in range(n_tensors):
                name, (n_dims,) = self.text(), self.unpack("<I")
                self.tensors[name] = (self.unpack(f"<{n_dims}Q"), *self.unpack("<IQ"))
            self.end = self.file.tell()
        self.alignment = self.values.get(b"general.alignment", 32)
        # Where the tensors' bytes begin.
        self.data = self.end + padding(self.end, self.alignment)

    def unpack(self, form):
        return struct.unpack(form, self.file.read(struct.calcsize(form)))

    def text(self):
        return self.file.read(self.unpack("<Q")[0])

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            kind, n = self.unpack("<IQ")
            return [self.value(kind) for _ in range(n)]
        return self.unpack(NUMBERS[kind])[0]


def padding(offset, alignment):
    return -offset % alignment


def made(path, scratch, ending, write):
    """A file beside others in `scratch`, which write(gguf, source, target) makes from `path`
    unless it is there and not older."""
    out = Path(scratch) / (Path(path).stem + ending)
    if out.exists() and out.stat().st_mtime > os.stat(path).st_mtime:
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    with open(path, "rb") as source, open(partial, "wb") as target:
        write(Gguf(path), source, target)
    partial.replace(out)
    return out


def copy_with(new, model, source, target):
    """Writes the same tensors behind a header with `new` values (key → encoded type and value)."""
    source.seek(4)
    version, n_tensors, _ = struct.unpack("<IQQ", source.read(20))
    old = [place for key, place in model.places.items() if key not in new]
    target.write(struct.pack("<4sIQQ", b"GGUF", version, n_tensors, len(old) + len(new)))
    for key, value in new.items():
        target.write(encoded_text(key) + value)
    for start, end in [*old, (model.infos, model.end)]:
        source.seek(start)
        target.write(source.read(end - start))
    target.write(bytes(padding(target.tell(), model.alignment)))
    source.seek(model.data)
    shutil.copyfileobj(source, target, 1 << 24)


def encoded_text(text):
    return struct.pack("<Q", len(text)) + text


def u32(number):
    return struct.pack("<II", U32, number)


def string(text):
    return struct.pack("<I", STRING) + encoded_text(text)


def strings(texts):
    return struct.pack("<IIQ", ARRAY, STRING, len(texts)) + b"".join(map(encoded_text, texts))
