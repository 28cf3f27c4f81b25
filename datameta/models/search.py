"""What narrows a search: for every block of submitted sets, what occurs in them. Never the answer itself.

A block is a few sets of one submission, in the order of their ids; all submitted sets are in one. It is written with
the submission, and never changes. What services have answered for its sets is gathered beside it.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from datameta.models.base import Base, PrimaryKey

Pieces = ARRAY(Text(collation="C"))


class SearchBlock(Base):
    """Sets of one submission, ``first_id`` to ``last_id``.

    ``filled`` are the fields of which each of them holds a value, ``pieces`` the pieces of all that they hold
    (``logic/blocks.py``).
    """

    __tablename__ = "search_blocks"
    __table_args__ = (
        UniqueConstraint("submission_id", "first_id"),
        # Without a list of what is pending, which every search would have to look through.
        Index("ix_search_blocks_pieces", "pieces", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    )

    id: Mapped[PrimaryKey]
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"))
    first_id: Mapped[int] = mapped_column(BigInteger)
    last_id: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int]
    filled: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    pieces: Mapped[list[str]] = mapped_column(Pieces)


class SearchAnswer(Base):
    """For how many sets of a block a service has answered, and the pieces of what it said."""

    __tablename__ = "search_answers"
    __table_args__ = (
        Index("ix_search_answers_pieces", "pieces", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    )

    block_id: Mapped[int] = mapped_column(ForeignKey("search_blocks.id"), primary_key=True)
    service_id: Mapped[int] = mapped_column(ForeignKey("services.id"), primary_key=True, index=True)
    answered: Mapped[int]
    pieces: Mapped[list[str]] = mapped_column(Pieces)
