"""The console: pages for people who decide, at ``/``. ``frame.py`` says how a page is added."""
