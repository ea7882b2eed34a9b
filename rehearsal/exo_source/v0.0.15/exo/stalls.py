"""The two ways in which a complete ring stands still, with the cause in one node's log alone: the genuine words.

Both were seen on EXO 0.0.15 with tinygrad on three nodes; the paths are shortened.
"""

from .cards import TINYGRAD

READ_ONLY = """\
Error processing tensor for shard Shard(model_id='{model}', start_layer={first}, end_layer={last}, n_layers={layers}): \
underlying buffer is not writable
Traceback (most recent call last):
  File "exo/orchestration/node.py", line 382, in _process_tensor
    result, inference_state = await self.inference_engine.infer_tensor(request_id, shard, tensor, inference_state)
                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "tinygrad/helpers.py", line 337, in from_mv
    return ctypes.cast(ctypes.addressof(to_type.from_buffer(mv)), ctypes.POINTER(to_type * len(mv))).contents
                                        ^^^^^^^^^^^^^^^^^^^^^^^
TypeError: underlying buffer is not writable"""
EMPTY_SHARD = """\
Task exception was never retrieved
future: <Task finished name='Task-2' coro=<Node.forward_tensor() done, defined at exo/orchestration/node.py:432> \
exception=IndexError('list index out of range')>
Traceback (most recent call last):
  File "exo/orchestration/node.py", line 442, in forward_tensor
    next_shard = self.get_current_shard(base_shard, target_index)
                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "exo/orchestration/node.py", line 468, in get_current_shard
    return shards[index]
           ~~~~~~^^^^^^^
IndexError: list index out of range"""
WORDS = {"read-only array": READ_ONLY, "empty shard": EMPTY_SHARD}


def words(stall: str, model: str, index: int, nodes: int) -> str:
    """Return what member `index` of a ring of `nodes` writes into its log when it stands still for the reason `stall`."""
    layers = TINYGRAD[model][1]
    first, last = index * layers // nodes, (index + 1) * layers // nodes - 1
    return WORDS[stall].format(model=model, first=first, last=last, layers=layers)
