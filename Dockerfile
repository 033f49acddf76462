# projheads with PyLate; docs/install.md says how to build it for a CPU or a GPU, and how to use it.
FROM python:3.11-slim

# PyPI's torch contains CUDA, which takes several gigabytes; an index of CPU builds avoids that.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

WORKDIR /projheads
# The dependencies are installed again only if one of these files changes. pip 25.1 is the first with dependency groups.
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY projheads projheads
RUN pip install --no-cache-dir 'pip==25.3' \
    && pip install --no-cache-dir --constraint constraints/pylate.txt --group quickstart --editable '.[pylate]'

COPY . .
VOLUME /projheads/outputs
ENTRYPOINT ["projheads"]
CMD ["answer", "configs/quickstart.yaml", "--workers", "auto"]
