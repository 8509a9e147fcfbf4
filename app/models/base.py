"""What all tables share: the naming of constraints, and the column types that recur."""

from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, MetaData, Text, Uuid, func
from sqlalchemy.orm import DeclarativeBase, mapped_column

# Violations are translated by the constraint's name, so names are decided here and not by the database.
NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Base(DeclarativeBase):
    """The tables. Repositories write SQL over them; no mapped object is ever loaded."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True), str: Text(), int: BigInteger(), UUID: Uuid()}


# Compared byte by byte, so that no locale of the database changes what is equal or what comes first.
KeyText = Annotated[str, mapped_column(Text(collation="C"))]
CreatedAt = Annotated[datetime, mapped_column(server_default=func.now())]
