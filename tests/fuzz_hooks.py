"""What schemathesis puts into fields for files: damaged and sound images (`tests.fuzz` names this module)."""

import schemathesis

from tests.fuzz import damaged

schemathesis.openapi.format("binary", damaged())
