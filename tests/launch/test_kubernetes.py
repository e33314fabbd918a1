"""The Kubernetes objects: of their schema, and fitting each other, JAX and the image."""

import json
from pathlib import Path

import pytest

from alexnet_jax import main
from tests.launch.stand_ins import (
    LAUNCH,
)
from tests.launch.test_image import last_stage


def kubernetes_objects() -> dict[str, dict]:
    """By kind."""
    yaml = pytest.importorskip('yaml', reason='no PyYAML')
    found = yaml.safe_load_all((LAUNCH / 'kubernetes.yaml').read_text())
    return {one['kind']: one for one in found}


def test_the_pod_runs_the_image():
    stage = last_stage()
    pod = kubernetes_objects()['JobSet']['spec']['replicatedJobs'][0]['template']['spec'][
        'template'
    ]
    context, [container] = pod['spec']['securityContext'], pod['spec']['containers']
    found = dict(stage)
    assert json.loads(found['ENTRYPOINT']) == ['python', '-m', 'alexnet_jax.main']
    assert 'command' not in container and 'CMD' not in found
    options, overrides = main.parse(container['args'])
    config = main.settings(
        options, overrides
    )  # as the image finds it by name, outside the repository
    assert options.config == 'imagenet'
    user = f'{context["runAsUser"]}:{context["runAsGroup"]}'
    assert context['runAsNonRoot'] and found['USER'] == user and '0' not in user.split(':')
    assert context['fsGroup'] == context['runAsGroup']
    assert f'useradd --uid {context["runAsUser"]} ' in found['RUN']
    mounts = [one['mountPath'] for one in container['volumeMounts']]
    assert found['WORKDIR'] in mounts and f'HOME={found["WORKDIR"]}' in found['ENV'].split()
    for path in (options.workdir, Path(config.data.dir)):
        assert path.is_relative_to(found['WORKDIR'])


def test_kubernetes_objects_fit_each_other_and_jax():
    objects = kubernetes_objects()
    jobset = objects['JobSet']['spec']
    # jax.distributed wants the default subdomain, an index, and all pods in one job.
    assert jobset['network'] == {'enableDNSHostnames': True}
    [train] = jobset['replicatedJobs']
    job = train['template']['spec']
    assert train['replicas'] == 1
    assert job['completionMode'] == 'Indexed'
    assert job['completions'] == job['parallelism'] > 1
    rules = objects['Role']['rules']
    allowed = {(*rule['apiGroups'], *rule['resources'], *rule['verbs']) for rule in rules}
    assert allowed == {('', 'pods', 'list'), ('batch', 'jobs', 'get')}
    pod = job['template']['spec']
    account = objects['ServiceAccount']['metadata']['name']
    assert pod['serviceAccountName'] == account
    binding = objects['RoleBinding']
    assert binding['subjects'] == [{'kind': 'ServiceAccount', 'name': account}]
    assert binding['roleRef']['name'] == objects['Role']['metadata']['name']

    [container] = pod['containers']
    assert '--processes=auto' in container['args']
    [bad_input] = job['podFailurePolicy']['rules']
    of_bad_input = {'containerName': container['name'], 'operator': 'In', 'values': [2]}
    assert bad_input['onExitCodes'] == of_bad_input
    mounts, volumes = container['volumeMounts'], pod['volumes']
    assert {one['name'] for one in mounts} == {one['name'] for one in volumes}
    claim = objects['PersistentVolumeClaim']
    assert pod['volumes'][0]['persistentVolumeClaim']['claimName'] == claim['metadata']['name']


def test_kubernetes_objects_are_of_their_schema():
    """A field that the schema has not would be lost on the way; so would a wrong type."""
    reason = 'no Kubernetes schemas: pip install kubeflow_trainer_api'
    models = pytest.importorskip('kubeflow_trainer_api.models', reason=reason)
    objects = kubernetes_objects()
    for kind, model in (
        ('JobSet', models.JobsetV1alpha2JobSet),
        ('PersistentVolumeClaim', models.IoK8sApiCoreV1PersistentVolumeClaim),
    ):
        assert model.from_dict(objects[kind]).to_dict() == objects[kind]
