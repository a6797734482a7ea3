# The trainer as an image for Vertex AI's custom jobs (`containerSpec`), for CPUs and GPUs: the base image decides.
#   CPU   --build-arg BASE_IMAGE=python:3.11-slim-bookworm (the default)
#   GPU   --build-arg BASE_IMAGE=tensorflow/tensorflow:2.20.0-gpu, or any image with Python 3.10–3.12 and the CUDA and cuDNN
#         libraries that TensorFlow 2.20 names (CUDA 12.5, cuDNN 9.3)
# `odcloud image build` builds it; it needs no BuildKit. What changes least comes first: new code rebuilds the last layer only.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

# Behind a proxy that signs with a certificate of its own, its PEM text goes here. Certificates are no secret.
ARG EXTRA_CA=""
RUN if [ -n "$EXTRA_CA" ]; then \
        printf '%s\n' "$EXTRA_CA" > /usr/local/share/ca-certificates/extra.crt && update-ca-certificates; \
    fi \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin trainer

# --no-deps: the lock is complete, and leaves out what Model Garden names but nothing here imports. The build tools come first,
# from the lock too, for the few packages without wheels.
COPY trainer/requirements.lock /opt/trainer/requirements.lock
RUN export PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    && python3 -m venv /opt/venv \
    && awk '/^[a-z]/ { wanted = /^(setuptools|wheel)==/ } wanted' /opt/trainer/requirements.lock > /tmp/build.lock \
    && /opt/venv/bin/pip install --progress-bar off --require-hashes --no-deps --requirement /tmp/build.lock \
    && /opt/venv/bin/pip install --progress-bar off --require-hashes --no-deps --no-build-isolation \
        --requirement /opt/trainer/requirements.lock \
    && rm /tmp/build.lock

LABEL org.opencontainers.image.title="odcloud trainer" \
    org.opencontainers.image.description="Trains and evaluates TensorFlow object detectors from a pipeline.config" \
    org.opencontainers.image.licenses="Apache-2.0"

# MPLCONFIGDIR: whoever runs the container may give it another user, who cannot write into this one's home.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/trainer PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /tmp
USER 10001:10001
# A pool's args follow this; a pool's command replaces it (for evaluation: python -m trainer.evaluate).
ENTRYPOINT ["python", "-m", "trainer.train"]
COPY trainer /opt/trainer/trainer
