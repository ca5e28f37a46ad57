# The two commands in a container, with the versions of requirements.lock:
#     docker build -t xyield .
#     docker run --rm -v "$PWD/out:/xyield/runs" xyield reproduce archive profile=smoke
# Apptainer.def makes an Apptainer image of it.
FROM python:3.11-slim-bookworm
# besides git and make: libraries of the system that wheels of the lock load
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libgomp1 git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /xyield
# the libraries first: they change less often than the code
COPY requirements.lock ./
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --quiet --require-hashes --requirement requirements.lock
COPY . ./
RUN git config --system --add safe.directory /xyield && make setup
ENTRYPOINT ["make"]
CMD ["help"]
