"""Versions of packages, as files of results name them."""

from importlib.metadata import version

from sentemb.versions import versions_of


def test_a_package_that_is_only_on_the_path_is_named_so():
    assert versions_of(["numpy", "no-such-package"]) == {"numpy": version("numpy"), "no-such-package": "not installed"}
