"""A Sphinx extension for the book's pages, loaded through _config.yml."""


def drop_thebe(app, page, template, context, doctree):
    """Take sphinx-thebe's scripts off the page.

    Jupyter Book loads that extension whether it is used or not, and it puts its scripts on every page
    twice, which the browser reports as an error.
    """
    if "script_files" in context:
        context["script_files"] = [
            script
            for script in context["script_files"]
            if "thebe" not in str(script).lower() and "thebe" not in str(getattr(script, "attributes", "")).lower()
        ]


def name_citations(app, page, template, context, doctree):
    """Take the role of a list off citations, whose entries are no list items to a screen reader."""
    if "citation-list" in context.get("body", ""):
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )


def setup(app):
    app.connect("html-page-context", name_citations)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
