"""The extension: with the library of the tree around it, linked in; elsewhere with the one that is installed (pkg-config kvfs)."""
import glob
import os
import re
import subprocess

from setuptools import Extension, setup

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.join(HERE, os.pardir, os.pardir)


def ask(*words):
    return subprocess.run(["pkg-config", *words, "kvfs"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


if os.path.exists(os.path.join(TREE, "Makefile")):
    subprocess.run(["make", "-s", "-C", TREE, "build/plain/libkvfs.a"], check=True)
    with open(os.path.join(TREE, "include", "kvfs.h"), encoding="utf-8") as header:
        version = re.search(r'KVFS_VERSION "(.*)"', header.read())[1]
    compile_args = ["-I" + os.path.join(TREE, "include")]
    link_args = [os.path.join(TREE, "build", "plain", "libkvfs.a"), "-llmdb", "-lnettle", "-Wl,--exclude-libs,ALL"]
else:
    version = ask("--modversion")[0]
    compile_args, link_args = ask("--cflags"), ask("--libs")

setup(
    version=version,
    ext_modules=[
        Extension(
            "kvfs._kvfs",
            sorted(os.path.relpath(path, HERE) for path in glob.glob(os.path.join(HERE, "_kvfs", "*.c"))),
            depends=["_kvfs/kvpy.h"],
            define_macros=[("_GNU_SOURCE", "1")],
            extra_compile_args=["-std=gnu11", *compile_args],
            extra_link_args=link_args,
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
