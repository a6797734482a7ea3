"""Small texts, on a local path or on gs:// (then through TensorFlow's file systems, which are loaded for that)."""

from __future__ import annotations

from pathlib import Path

from trainer import paths


def read(path: str) -> str | None:
    """The file's text, or None where there is no such file. Raises OSError when it is there and cannot be read.

    A byte order mark, which editors on Windows write, is no part of the text.
    """
    if paths.is_remote(path):
        import tensorflow as tf

        try:
            return str(tf.io.gfile.GFile(path, "r").read()).removeprefix("\ufeff")
        except tf.errors.NotFoundError:
            return None
        except tf.errors.OpError as error:
            raise OSError(error.message) from error
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None


def write(path: str, text: str) -> None:
    """As `write_bytes`, in UTF-8. Raises OSError."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str, content: bytes) -> None:
    """Writes the whole file, folders included; a reader sees the old content or the new one. Raises OSError."""
    if paths.is_remote(path):
        import tensorflow as tf

        try:
            with tf.io.gfile.GFile(path, "wb") as file:
                file.write(content)
        except tf.errors.OpError as error:
            raise OSError(error.message) from error
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_bytes(content)
    temporary.replace(target)


def make_folder(path: str) -> None:
    """Makes the folder and those above it. Raises OSError."""
    if not paths.is_remote(path):
        Path(path).mkdir(parents=True, exist_ok=True)


def is_folder(path: str) -> bool:
    """Whether the folder exists; on gs://, whether anything lies below it."""
    if paths.is_remote(path):
        import tensorflow as tf

        return bool(tf.io.gfile.isdir(path))
    return Path(path).is_dir()


def matching(pattern: str) -> list[str]:
    """The files that a pattern with * and ? names, which stand in its last part."""
    if paths.is_remote(pattern):
        import tensorflow as tf

        return list(tf.io.gfile.glob(pattern))
    path = Path(pattern)
    return sorted(str(found) for found in path.parent.glob(path.name))
