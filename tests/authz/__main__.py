"""Write docs/authorisation.md anew."""

from tests.authz.document import PATH, write_document

PATH.write_text(write_document(), "utf-8")
