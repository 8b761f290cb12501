"""Build the C extensions; everything else about the package is in pyproject.toml."""

from pathlib import Path

from setuptools import setup

BUILDERS = ("build_codec.py", "build_usrsctp.py")
setup(cffi_modules=[f"_native/{b}:ffibuilder" for b in BUILDERS if Path("_native", b).exists()])
