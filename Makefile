# The words a person types. Everything else is in the notebooks and in the Snakefile.
.DEFAULT_GOAL := help
.PHONY: help setup data lock audit reproduce search archive cost verify bench portability print test nightly pytest-test pytest-nightly
.PHONY: chapters-test chapters-nightly lint docs course readme notebooks quotes hooks clean

PYTHON  ?= python3
profile ?= laptop
cores   ?= 2
VENV    := .venv
BIN     := $(CURDIR)/$(VENV)/bin
FASHION := $(or $(XYIELD_DATA),$(CURDIR)/data)/FashionMNIST/raw
# one thread for each process: the work runs in several processes side by side
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# glibc keeps the memory of tensors of a few MB instead of giving it back and asking for it anew at every step
THREADS += MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo; echo "make reproduce profile=smoke   the whole chain in a few minutes"

setup: $(VENV)/.done  ## create .venv and install the package with all its dependencies

# the exact versions, each with its hash; the package itself is built with the setuptools that is among them
$(VENV)/.done: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("Python %d.%d is too old: 3.11 or newer is needed (make PYTHON=python3.12 ...)" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

lock:  ## choose the versions in requirements.lock anew, for all supported Pythons
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV); $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes $(upgrade) \
		--quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements.lock

audit: setup  ## look the locked versions up in the database of known vulnerabilities (needs the network)
	@$(BIN)/pip-audit --strict --requirement requirements.lock --disable-pip --require-hashes --progress-spinner off \
		|| { echo "make audit: not clean: a vulnerability is listed above, or the database could not be reached"; exit 1; }

data: setup  ## get Fashion-MNIST for the image tables, unless it is there: by torchvision, else from Debian
	@$(BIN)/python -c 'from xyield.testbed import fashion_mnist; fashion_mnist()' 2>/dev/null \
		|| $(BIN)/python -c 'from xyield.testbed import fashion_mnist; fashion_mnist(download=True)' 2>/dev/null \
		|| { mkdir -p "$(FASHION)" && cd "$(FASHION)" && apt-get download --quiet dataset-fashion-mnist && dpkg -x *.deb . \
			&& mv usr/share/datasets/fashion-mnist/*.gz . && rm -r usr *.deb; } \
		|| { echo "Fashion-MNIST could not be fetched: the image tables will be missing. Put its four files into $(FASHION)"; exit 1; }

# without Fashion-MNIST everything else is made, and the image tables fail by name
reproduce search: setup
	-@test $(profile) = smoke || $(MAKE) --no-print-directory data
	$(if $(archive),$(BIN)/xyield unpack "$(archive)" --profile $(profile))
	$(if $(archive),XYIELD_ARCHIVE="$(archive)") $(THREADS) PATH="$(BIN):$$PATH" $(BIN)/snakemake --cores $(cores) --quiet host reason \
		--config profile=$(profile) -- $(subst reproduce,all,$@)

reproduce:  ## regenerate tables/ and figures/ (profile=laptop, cores=2; archive=FILE: from stored results)
search:  ## search for settings anew, and test cleanly what was found: hours (profile=laptop, cores=2)

archive: setup  ## all that a reproduction left as one file, runs/xyield-PROFILE.zip (profile=laptop)
	@$(BIN)/xyield archive --profile $(profile)

cost: setup  ## what the last run of each notebook, and of `make nightly`, cost: tables/reproduction.md (profile=laptop)
	@$(BIN)/xyield cost --profile $(profile)

verify: setup  ## what is wrong, missing or stale among the artefacts and in what quotes them (seconds, no training)
	@$(BIN)/xyield verify

bench: setup  ## what a training step costs on this processor: tables/speed.md
	$(THREADS) $(BIN)/python tests/benchmarks/steps.py

# side by side, a core each; what they print comes as it comes
test nightly: setup lint
	@$(MAKE) --no-print-directory --keep-going -j2 pytest-$@ chapters-$@

test:  ## lint, pytest and the tests within the notebooks
nightly:  ## like test, with the slow tests: kills over the whole smoke profile, mutations of the code

# the digits that tests know are a CPU's; for a GPU there is tests/gpu_check.py
pytest-test pytest-nightly:
	$(THREADS) CUDA_VISIBLE_DEVICES= PATH="$(BIN):$$PATH" $(BIN)/python -m pytest --numprocesses $(cores) --dist loadscope --no-loadscope-reorder \
		$(if $(filter %nightly,$@),-m 'slow or not slow' --timeout 7200 --junitxml=$(or $(XYIELD_RUNS),runs)/nightly.xml)

chapters-test chapters-nightly:
	$(THREADS) CUDA_VISIBLE_DEVICES= PATH="$(BIN):$$PATH" $(BIN)/nbdev-test --n-workers 1 --do-print --timing --skip-folder-re '^([_.]|experiments$(if $(filter %test,$@),|tutorials))'

lint: setup  ## ruff over notebooks and tests
	$(BIN)/ruff check --quiet .

docs: setup  ## build the site, _docs/html/index.html, from the notebooks as they were run
	$(THREADS) $(BIN)/python docs/build.py

portability: setup  ## which tables come back with other threads and instructions: tables/portability.md (an hour)
	$(BIN)/python tests/benchmarks/portability.py

print: docs  ## all chapters on one page, _docs/print/print.html, and as a PDF where there is a Chromium
	$(BIN)/python docs/printed.py

course: setup  ## copies of the tutorials for students, without answers and hidden tests, in course/
	$(BIN)/python docs/course.py students course

notebooks: setup  ## run the library notebooks anew, export the modules, write README.md
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-export
	$(THREADS) TQDM_DISABLE=1 PATH="$(BIN):$$PATH" $(BIN)/jupyter execute --inplace --kernel_name=python3 nbs/index.ipynb nbs/[0-9]_*/*.ipynb
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-clean
	$(MAKE) readme

readme: setup  ## README.md from nbs/index.ipynb; codemeta.json, .zenodo.json and codecheck.yml from CITATION.cff
	PATH="$(BIN):$$PATH" $(BIN)/jupyter nbconvert --log-level=WARN --to markdown nbs/index.ipynb --output-dir . --output README.md
	$(BIN)/python -c 'from pathlib import Path; from xyield.release import write_citation; write_citation(Path())'
	$(BIN)/python -c 'from pathlib import Path; from xyield.archive import write_codecheck; write_codecheck(Path())'

quotes: setup  ## write the verdicts and numbers of the claims into the prose that quotes them; read what it changes
	$(BIN)/python docs/quotes.py
	$(MAKE) readme

# not the one for `git diff`, which fails where nbdev is not on the PATH
hooks: setup  ## install nbdev's hooks in this clone (Jupyter cleans as it saves, git merges notebooks cell by cell)
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-install-hooks --diff false

clean:  ## forget all runs; tables/ and figures/ stay
	rm -rf runs .snakemake
