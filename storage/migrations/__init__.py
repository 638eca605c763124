"""The schema's history, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url


def upgrade(url: str) -> None:
    """Bring the database up to the newest schema. Safe to run from several processes at once.

    `url` is `postgresql://...`. Blocking: call it in a thread from async code.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["url"] = make_url(url).set(drivername="postgresql+asyncpg")
    command.upgrade(config, "head")
