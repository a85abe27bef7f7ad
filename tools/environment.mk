# The virtual environment in VENV. $(stamps) holds a file for every extra of the package that is installed.
$(python):
	$(PYTHON) -m venv $(VENV)
# The file "torch" also records the version of torch, so that no later step replaces it.
$(stamps)/torch: | $(python)
	$(python) -c "import torch" 2>/dev/null || $(pip) install $(TORCH) $(TORCHVISION)
	mkdir -p $(stamps)
	$(python) -c "import torch; print('torch==' + torch.__version__)" > $@.part
	mv $@.part $@
$(stamps)/cmake: $(stamps)/torch
	$(pip) install --quiet 'cmake>=3.20' ninja 'pybind11>=2.13,<4'
	touch $@
$(stamps)/build: $(stamps)/torch $(sources)
	$(pip) install --constraint $(stamps)/torch --editable .
	touch $@
# Install the packages that the installed package lists for an extra; installing the extra itself would build again.
$(stamps)/test: | $(stamps)/train $(stamps)/app  # the system's tests use their packages
$(stamps)/demo $(stamps)/test $(stamps)/train $(stamps)/app $(stamps)/bench $(stamps)/wheel: $(stamps)/%: $(stamps)/build
	$(python) -c "import re; from importlib.metadata import requires; found = requires('simplematch-kernels'); \
	    print(*(re.sub('(; | and )extra == .*', '', r) for r in found if 'extra == \"$*\"' in r), sep='\n')" > $@.part
	$(pip) install --constraint $(stamps)/torch --requirement $@.part
	mv $@.part $@
