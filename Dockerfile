# The service without a database: give it one in POLYTAG_DATABASE_URL.
#   docker build -t polytag .
#   docker run --init -p 127.0.0.1:8000:8000 -e POLYTAG_DATABASE_URL=postgresql://… polytag
# --init: a process with the number 1 gets no signal that it has not asked for, and the service asks when it is up.

FROM python:3.13-slim-trixie AS build

# Made where it will stand, since its scripts hold the path. The pip of the base image installs into it, so that it
# has none itself.
RUN ["python", "-m", "venv", "--without-pip", "/opt/polytag"]

# Before the code, so that a change of the code does not install anew. The lock names every file by its hash, and all
# of them are wheels: nothing is resolved and nothing compiled here.
COPY requirements.lock /tmp/requirements.lock
RUN pip --python /opt/polytag/bin/python install --no-cache-dir --no-compile --no-deps --only-binary=:all: \
        --require-hashes --disable-pip-version-check --root-user-action=ignore -r /tmp/requirements.lock

# What `pip install .` would write for [project.scripts]; building a wheel would take a backend that is not locked.
# Workers run this file again under another name, hence its condition.
RUN printf '%s\n' '#!/opt/polytag/bin/python' 'from app.cli import main' 'if __name__ == "__main__":' '    main()' \
        > /opt/polytag/bin/polytag \
    && chmod 0755 /opt/polytag/bin/polytag

COPY app /opt/polytag/src/app
COPY migrations /opt/polytag/src/migrations

# Starting without byte code takes seconds. It is not compared with its source, whose times a copy may change.
RUN ["/opt/polytag/bin/python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/opt/polytag"]


FROM python:3.13-slim-trixie

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Polytag" \
      org.opencontainers.image.description="A microservice for the tags of contacts." \
      org.opencontainers.image.version="${VERSION}"

# By number, so that Kubernetes can tell that it is not root.
RUN groupadd --gid 10001 polytag \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin polytag

# Root's, so that the service cannot change its own code.
COPY --from=build /opt/polytag /opt/polytag

ENV PATH=/opt/polytag/bin:$PATH \
    PYTHONPATH=/opt/polytag/src \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POLYTAG_HOST=0.0.0.0 \
    POLYTAG_PORT=8000

USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# Not through urllib, which would ask a proxy. While it migrates, the service does not answer yet.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --start-interval=1s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['POLYTAG_PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]

CMD ["polytag", "serve"]
