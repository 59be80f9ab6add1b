"""Configuration of the documentation. `make docs` builds it, strictly: a warning is an error."""

import sys
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

from fastconv import __version__

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extension"), str(HERE / "gallery")]

from drawings import thumbnail  # noqa: E402  found beside this file only

project = "fastconv"
author = "the fastconv developers"
project_copyright = "the fastconv developers, BSD-3-Clause"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "drawings",
    "mathml",
    "tables",
]
exclude_patterns = [
    "_build",
    "_figures",
    "extension",
    "gallery",
    "gallery_pages/sg_execution_times.rst",
    "**.svg",
    "sg_execution_times.rst",
]
# Other files may stand beside the pages; they are pictures and results.
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = False
default_role = "py:obj"

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say more: shapes and dtypes
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# The prompt is not part of what is copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "fastconv"
html_static_path = ["_static"]
html_css_files = ["fastconv.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_pages",
    "filename_pattern": r"/plot_",
    "within_subsection_order": ExplicitOrder(
        [
            "plot_kernels.py",
            "plot_unsharp.py",
            "plot_template.py",
            "plot_large_blur.py",
            "plot_life.py",
            "network.py",
            "plot_training.py",
            "plot_reactions.py",
        ]
    ),
    "default_thumb_file": thumbnail(),
    "reset_modules": ("matplotlib", "drawings.reset_style"),
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 10_000,
    "plot_gallery": True,
    "abort_on_example_error": True,
    "image_srcset": ["2x"],
}
