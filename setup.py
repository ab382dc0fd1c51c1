"""Packaging, driven by settings.ini: the one home of name, version and requirements."""
from configparser import ConfigParser
from pathlib import Path
from shutil import copytree

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters="=")
config.read(Path(__file__).with_name("settings.ini"), encoding="utf-8")
settings = config["DEFAULT"]


def lines(name: str) -> list[str]:
    """The lines of a setting that holds one entry to a line."""
    return [line.strip() for line in settings.get(name, "").splitlines() if line.strip()]



class BuildWithTemplates(build_py):
    """Put what an installed failwb needs beside its modules: experiment templates and the defaults of params.yaml."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        here, built = Path(__file__).parent, Path(self.build_lib) / settings["lib_path"]
        copytree(here / "nbs" / "templates", built / "templates", dirs_exist_ok=True)
        (built / "params.yaml").write_bytes((here / "params.yaml").read_bytes())


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="Apache-2.0",
    python_requires=">=" + settings["min_python"],
    packages=find_packages(include=["failwb", "failwb.*"]),
    cmdclass={"build_py": BuildWithTemplates},
    package_data={"failwb": ["**/*.css", "**/*.js"]},
    install_requires=settings["requirements"].split(),
    extras_require={
        "dev": settings["dev_requirements"].split(),
        "onnx": settings["onnx_requirements"].split(),
        "dask": settings["dask_requirements"].split(),
        "streams": settings["streams_requirements"].split(),
    },
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "failwb.finder": lines("finders"),
        "failwb.model": lines("models"),
        "failwb.remedy": lines("remedies"),
    },
    zip_safe=False,
)
