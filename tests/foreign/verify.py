#!/usr/bin/env python3
"""Verifies a Treeline log from the public specifications alone.

    verify.py DIR VKEY-FILE PROOF-FILE

Python's standard library hashes (RFC 6962) and reads files (c2sp.org/tlog-tiles, signed-note, tlog-checkpoint,
tlog-proof); `openssl` judges the Ed25519 signature. Exit status 0: accepted; 1: rejected; 2: it could not be tried.
"""

import base64
import hashlib
import pathlib
import subprocess
import sys
import tempfile

# DER of a SubjectPublicKeyInfo for Ed25519 up to the 32 bytes of the key, RFC 8410.
ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")


class Rejected(Exception):
    pass


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_hash(leaves):
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(root_hash(leaves[:middle]), root_hash(leaves[middle:]))


def read_key(text):
    name, key_id, key = text.strip().split("+", 2)
    key = base64.b64decode(key, validate=True)
    expected = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    if key[0] != 1 or len(key) != 33 or expected.hex() != key_id:
        raise Rejected("the public key is no Ed25519 key with the right id")
    return name, expected, key[1:]


def verifies(key, text, signature):
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        (directory / "key").write_bytes(ED25519_SPKI + key)
        (directory / "text").write_bytes(text)
        (directory / "signature").write_bytes(signature)
        command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in text -sigfile signature"
        return subprocess.run(command.split(), cwd=directory, capture_output=True).returncode == 0


def open_checkpoint(note, key):
    name, key_id, public = key
    text, separator, signatures = note.rpartition(b"\n\n")
    text += b"\n"
    for line in signatures.decode().splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if dash == "\u2014" and signer == name and signature[:4] == key_id:
            if not verifies(public, text, signature[4:]):
                raise Rejected("the checkpoint's signature is wrong")
            break
    else:
        raise Rejected("the checkpoint is not signed by the key")
    origin, size, root = text.decode().split("\n")[:3]
    if origin != name:
        raise Rejected("the checkpoint is another log's")
    return int(size), base64.b64decode(root, validate=True)


def read_entries(directory, size):
    entries = []
    for bundle in range((size + 255) // 256):
        path = f"{bundle % 1000:03}"
        rest = bundle // 1000
        while rest:
            path = f"x{rest % 1000:03}/{path}"
            rest //= 1000
        width = min(256, size - bundle * 256)
        if width < 256:
            path += f".p/{width}"
        data = (directory / "tile" / "entries" / path).read_bytes()
        position = 0
        for _ in range(width):
            end = position + 2 + int.from_bytes(data[position:position + 2], "big")
            if position + 2 > len(data) or end > len(data):
                raise Rejected(f"bundle {path} is cut short")
            entries.append(data[position + 2:end])
            position = end
        if position != len(data):
            raise Rejected(f"bundle {path} has bytes behind its entries")
    return entries


def check_proof(text, key, entries):
    head, _, checkpoint = text.partition(b"\n\n")
    first, index, *hashes = head.decode().split("\n")
    if first != "c2sp.org/tlog-proof@v1" or not index.startswith("index "):
        raise Rejected("not a tlog-proof")
    size, root = open_checkpoint(checkpoint, key)
    position, last = int(index[6:]), size - 1
    node = leaf_hash(entries[position])
    for sibling in hashes:
        sibling = base64.b64decode(sibling, validate=True)
        if position % 2 or position == last:
            node = node_hash(sibling, node)
            while position and position % 2 == 0:
                position, last = position // 2, last // 2
        else:
            node = node_hash(node, sibling)
        position, last = position // 2, last // 2
    if last or node != root:
        raise Rejected("the proof leads to another root")


def main():
    if len(sys.argv) != 4:
        print("usage: verify.py DIR VKEY-FILE PROOF-FILE", file=sys.stderr)
        return 2
    directory, key_file, proof_file = map(pathlib.Path, sys.argv[1:])
    try:
        key = read_key(key_file.read_text())
        size, root = open_checkpoint((directory / "checkpoint").read_bytes(), key)
        entries = read_entries(directory, size)
        if root_hash([leaf_hash(entry) for entry in entries]) != root:
            raise Rejected("the root of the entries is not the one that was signed")
        check_proof(proof_file.read_bytes(), key, entries)
    except (Rejected, ValueError, IndexError, OSError) as error:
        print(f"rejected: {error}")
        return 1
    print(f"accepted: {size} entries")
    return 0


sys.exit(main())
