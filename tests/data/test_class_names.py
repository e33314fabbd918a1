from alexnet_jax.data import class_names


def test_imagenet_s_classes_are_in_the_order_of_their_identifiers():
    """As ILSVRC-2012 numbers them everywhere but in its own development kit."""
    names = class_names.imagenet_classes()
    assert len(set(names)) == 1000 and list(names) == sorted(names)
    assert (names[0], names[281], names[999]) == ('n01440764', 'n02123045', 'n15075141')
    assert class_names.told('n01440764').startswith('tench')
    assert class_names.told('n02123045').startswith('tabby')
    assert class_names.told('n15075141').startswith('toilet tissue')


def test_other_names_are_told_on_one_line():
    assert class_names.told('Döner, a\u00a0b\n\x1b[31m') == 'Döner, a\\xa0b\\n\\x1b[31m'


def test_sets_are_compared_by_name_where_they_have_names():
    named, nameless = ('a', 'b'), class_names.unnamed(2)
    assert class_names.same(named, named)
    assert class_names.same(named, nameless) and class_names.same(nameless, named)
    assert not class_names.same(named, ('b', 'a'))
    assert not class_names.same(named, ('a', 'b', 'c'))
    assert not class_names.same(named, class_names.unnamed(3))
