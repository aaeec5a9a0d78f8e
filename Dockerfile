# The workflow with all its packages. CUDA comes with torch's wheels; the machine needs the NVIDIA driver only.
#   docker build -t kanoclip .
#   docker run --rm -v "$PWD/results:/kanoclip/results" kanoclip --cores all --configfile config/quickstart.yaml
# With a GPU add `--gpus all` and `--profile profiles/local-gpu`; docs/cluster.md has the lines for Apptainer.
FROM python:3.11-slim-bookworm

WORKDIR /kanoclip
COPY pyproject.toml README.md LICENSE ./
COPY kanoclip kanoclip
RUN pip install --no-cache-dir -e ".[data,llm]"
COPY Snakefile environment.yml ./
COPY workflow workflow
COPY config config
COPY profiles profiles

# Snakemake and matplotlib keep small files in the home folder, which need not belong to the user who runs the container
ENV HOME=/tmp
ENTRYPOINT ["snakemake"]
CMD ["--cores", "all"]
