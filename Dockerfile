# projheads with PyLate, on the CPU; docs/install.md says how to use it, and how to build it for a GPU.
FROM python:3.11-slim

# PyPI's torch contains CUDA, which takes several gigabytes; this index has the build without it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

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
